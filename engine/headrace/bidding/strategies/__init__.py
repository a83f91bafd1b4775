"""Bidding rules that users write: what they may say, how they are compiled, and the limits they run in."""
