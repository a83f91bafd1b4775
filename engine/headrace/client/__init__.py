"""The Python client: ``Client`` blocks, ``AsyncClient`` is awaited; both have the same methods.

    from headrace import Client

    with Client("127.0.0.1:50051") as client:
        for item in client.recommend("shopper-17", limit=5).items:
            print(item.item_id, item.score)

Over TLS, with an API key: ``Client("shop.example:443", Connection(ca="system", api_key=key))``.

Every call has a deadline (``within`` sets another one). What is safe to send twice is retried until then when no server
takes it; ``bid``, ``create_campaign`` and other calls that would count twice never are. Errors are the classes of
:mod:`headrace.errors`.
"""

from headrace.client.client import AsyncClient, Client
from headrace.client.connection import Connection
from headrace.client.slates import RecommendedItem, Slate, Tier

__all__ = ["AsyncClient", "Client", "Connection", "RecommendedItem", "Slate", "Tier"]
