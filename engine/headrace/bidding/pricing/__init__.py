"""What impressions cost: the artifact's landscape, the win-rate model over it, and how far it is off."""
