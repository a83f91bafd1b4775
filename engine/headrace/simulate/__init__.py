"""A made-up market that the real bidder and the real ledger bid in, day by day, before it costs money."""
