"""The catalog's rows: which items exist, may be shown, and what they cost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headrace.events.store import Store


class CatalogItem(NamedTuple):
    """One item as the shop describes it; fields as in catalog.proto, checked by the caller."""

    item_id: str
    unavailable: bool
    price_micros: int
    publish_time_ms: int
    expire_time_ms: int
    attributes: Mapping[str, str]


class ItemChange(NamedTuple):
    """One row of ``items``; attributes is a JSON object."""

    item_key: int
    item_id: str
    in_catalog: int
    unavailable: int
    price_micros: int
    publish_time_ms: int
    expire_time_ms: int
    attributes: str
    change_sequence: int


_NEXT_CHANGE = "(SELECT coalesce(max(change_sequence), 0) + 1 FROM items)"
_UPSERT = f"""
    INSERT INTO items (item_id, in_catalog, unavailable, price_micros, publish_time_ms, expire_time_ms, attributes,
                       change_sequence)
    VALUES (?, 1, ?, ?, ?, ?, ?, {_NEXT_CHANGE})
    ON CONFLICT (item_id) DO UPDATE SET
        in_catalog = 1, unavailable = excluded.unavailable, price_micros = excluded.price_micros,
        publish_time_ms = excluded.publish_time_ms, expire_time_ms = excluded.expire_time_ms,
        attributes = excluded.attributes, change_sequence = excluded.change_sequence"""
_DELETE = f"""
    INSERT INTO items (item_id, in_catalog, unavailable, change_sequence) VALUES (?, 0, 1, {_NEXT_CHANGE})
    ON CONFLICT (item_id) DO UPDATE SET
        in_catalog = 0, unavailable = 1, price_micros = 0, publish_time_ms = 0, expire_time_ms = 0, attributes = '{{}}',
        change_sequence = excluded.change_sequence"""


def ensure(connection: sqlite3.Connection, item_id: str) -> int:
    """The item's key; an item that only events name is created outside the catalog."""
    row = connection.execute("SELECT item_key FROM items WHERE item_id = ?", (item_id,)).fetchone()
    if row:
        return int(row[0])
    cursor = connection.execute(f"INSERT INTO items (item_id, change_sequence) VALUES (?, {_NEXT_CHANGE})", (item_id,))
    return int(cursor.lastrowid or 0)


def upsert(connection: sqlite3.Connection, catalog_items: Sequence[CatalogItem]) -> int:
    """Create or replace items; the last of equal ids counts. Returns the number given."""
    for item in catalog_items:
        attributes = json.dumps(dict(item.attributes), ensure_ascii=False, sort_keys=True)
        connection.execute(_UPSERT, (item.item_id, int(item.unavailable), *item[2:5], attributes))
    return len(catalog_items)


def delete(connection: sqlite3.Connection, item_ids: Sequence[str], known: Sequence[bool]) -> int:
    """Take items out of answers; returns how many of the distinct ids were in the catalog or ``known``."""
    deleted = 0
    for item_id, is_known in dict(zip(item_ids, known, strict=True)).items():
        row = connection.execute("SELECT in_catalog FROM items WHERE item_id = ?", (item_id,)).fetchone()
        if is_known or (row and row[0]):
            connection.execute(_DELETE, (item_id,))
            deleted += 1
    return deleted


def changes(store: Store, since_change: int) -> list[ItemChange]:
    """Rows with a later change sequence, by item_key."""
    # asked some times a second: SQLite would rather read all rows than sort the few that changed
    table = "items INDEXED BY items_by_change" if since_change else "items NOT INDEXED"
    query = f"SELECT {', '.join(ItemChange._fields)} FROM {table} WHERE change_sequence > ? ORDER BY item_key"
    return [ItemChange(*row) for row in store.read(query, (since_change,))]
