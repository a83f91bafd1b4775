"""Proof of the money ledger: what it states is recomputed from its journal, by other code than that which states it."""
