"""A log of auctions played again under another strategy and budget."""
