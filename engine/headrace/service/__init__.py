"""One thin module for each proto service."""
