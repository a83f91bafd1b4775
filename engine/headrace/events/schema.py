"""The tables of the event log."""

from __future__ import annotations

STATEMENTS = (
    """CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS subjects (
        subject_key INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        external_id TEXT NOT NULL,
        created_sequence INTEGER NOT NULL,
        UNIQUE (kind, external_id)
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS erasures (mark BLOB PRIMARY KEY) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS items (
        item_key INTEGER PRIMARY KEY,
        item_id TEXT NOT NULL UNIQUE,
        in_catalog INTEGER NOT NULL DEFAULT 0,
        unavailable INTEGER NOT NULL DEFAULT 0,
        price_micros INTEGER NOT NULL DEFAULT 0,
        publish_time_ms INTEGER NOT NULL DEFAULT 0,
        expire_time_ms INTEGER NOT NULL DEFAULT 0,
        attributes TEXT NOT NULL DEFAULT '{}',
        change_sequence INTEGER NOT NULL
    ) STRICT""",
    """CREATE INDEX IF NOT EXISTS items_by_change ON items (change_sequence)""",
    """CREATE TABLE IF NOT EXISTS events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        subject_key INTEGER NOT NULL,
        anonymous_key INTEGER NOT NULL DEFAULT 0,
        type INTEGER NOT NULL,
        item_key INTEGER NOT NULL DEFAULT 0,
        time_ms INTEGER NOT NULL,
        quantity REAL NOT NULL DEFAULT 1,
        price_micros INTEGER NOT NULL DEFAULT 0,
        channel TEXT NOT NULL DEFAULT '',
        request_id TEXT NOT NULL DEFAULT '',
        position INTEGER NOT NULL DEFAULT -1
    ) STRICT""",
    """CREATE INDEX IF NOT EXISTS events_by_subject ON events (subject_key)""",
    """CREATE TABLE IF NOT EXISTS slates (
        request_id TEXT PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        subject_key INTEGER NOT NULL,
        artifact_version TEXT NOT NULL,
        tier INTEGER NOT NULL,
        surface TEXT NOT NULL,
        item_ids TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE INDEX IF NOT EXISTS slates_by_time ON slates (time_ms)""",
)
"""Key 0 means "none" in anonymous_key, item_key and slates.subject_key; so does position -1. item_ids is JSON."""

VIEW, CART, PURCHASE, RETURN, SHARE, CLICK, IMPRESSION, LOGIN = range(1, 9)
"""Event types, numbered as in events.proto."""

ERASE = 100
"""A person was forgotten; only the log itself writes this type."""

TYPE_NAMES = {1: "VIEW", 2: "CART", 3: "PURCHASE", 4: "RETURN", 5: "SHARE", 6: "CLICK", 7: "IMPRESSION", 8: "LOGIN"}
