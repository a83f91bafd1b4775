"""From a person's events to a slate."""
