"""The money ledger: accounts and budgets, tokens, the journal, and the way back after a crash."""
