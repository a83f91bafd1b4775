"""Headrace: personal recommendations and paced bids from one learned value."""

from importlib.metadata import version

__version__ = version("headrace")
