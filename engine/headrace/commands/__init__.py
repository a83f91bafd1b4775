"""The commands of ``headrace``, a few of one kind a file; they import what they need when they run."""
