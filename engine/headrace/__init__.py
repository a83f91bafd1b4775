"""Headrace: personal recommendations and paced bids from one learned value."""

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.bidding.strategies.strategy import Ask, strategy
    from headrace.client import AsyncClient, Client, Connection

__version__ = version("headrace")
__all__ = ["Ask", "AsyncClient", "Client", "Connection", "__version__", "strategy"]


def __getattr__(name: str) -> object:
    # the client brings grpcio with it, which a training job does not need
    if name in ("AsyncClient", "Client", "Connection"):
        import headrace.client

        return getattr(headrace.client, name)
    if name in ("Ask", "strategy"):
        import headrace.bidding.strategies.strategy

        return getattr(headrace.bidding.strategies.strategy, name)
    raise AttributeError(f"module 'headrace' has no attribute {name!r}")
