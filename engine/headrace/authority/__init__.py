"""One budget, several processes: an authority in SQLite or PostgreSQL allots to each what it may spend.

`Authority` holds the account tree (headrace.authority.schema says what its tables hold); `HeldLedger` is a ledger that
spends what an authority allots to it, and is kept in step with it by `Holder`.
"""
