"""Recorded auctions once more under other settings, and how far what was done lies below the best in hindsight."""
