"""Online state: what the log says about people and items, as arrays."""
