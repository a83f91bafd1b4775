"""Who an event is about: random subject keys, and the one table that knows the ids behind them.

A subject is a user (an id of the shop's) or an anonymous visitor (an id of a browser or device). Outside the table
both go by one *name*: the user id as it is, the anonymous id with NUL before it. Ids from outside never hold a NUL.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3

from headrace.events.schema import ERASE, LOGIN

USER = 1
ANONYMOUS = 2


def subject_name(user_id: str, anonymous_id: str) -> str:
    """The name of a subject: the user's when there is a user id; empty when both are."""
    if user_id:
        return user_id
    return "\0" + anonymous_id if anonymous_id else ""


def split_name(name: str) -> tuple[int, str]:
    """Kind and external id behind a name."""
    return (ANONYMOUS, name[1:]) if name.startswith("\0") else (USER, name)


def join_name(kind: int, external_id: str) -> str:
    """The name of a row of ``subjects``."""
    return "\0" + external_id if kind == ANONYMOUS else external_id


def find_subject(connection: sqlite3.Connection, name: str) -> int:
    """The subject's key; 0 when the name is not known."""
    row = connection.execute("SELECT subject_key FROM subjects WHERE kind = ? AND external_id = ?", split_name(name))
    found = row.fetchone()
    return int(found[0]) if found else 0


def ensure_subject(connection: sqlite3.Connection, name: str) -> int:
    """The subject's key, drawn at random when the name is new."""
    key = find_subject(connection, name)
    if key:
        return key
    key = secrets.randbits(62) + 1
    connection.execute(
        "INSERT INTO subjects (subject_key, kind, external_id, created_sequence) "
        "VALUES (?, ?, ?, (SELECT coalesce(max(sequence), 0) + 1 FROM events))",
        (key, *split_name(name)),
    )
    return key


def erasure_mark(log_id: str, name: str) -> bytes:
    """What stays of an erased name: a digest keyed by the log, kept apart from all events.

    It lets artifacts that were trained from another log, and so cannot be checked against ``subjects``, stop using
    the person's row.
    """
    return hashlib.blake2b(name.encode(), key=log_id.encode(), digest_size=16).digest()


def erase_subject(connection: sqlite3.Connection, log_id: str, name: str, time_ms: int) -> bool:
    """Cut every link from a name to the log and append the erasure as an event; False when the log did not know it.

    The anonymous ids that logged in as the person go with it. Event ids are replaced, since a shop may build them
    from customer ids; so a repeat of such an event counts as new.
    """
    key = find_subject(connection, name)
    logins = connection.execute(
        "SELECT DISTINCT anonymous_key FROM events WHERE subject_key = ? AND type = ?", (key, LOGIN)
    )
    keys = [key or secrets.randbits(62) + 1, *(row[0] for row in logins)]
    connection.execute("INSERT OR IGNORE INTO erasures (mark) VALUES (?)", (erasure_mark(log_id, name),))
    for each in keys:
        _mark_known(connection, log_id, each)
        connection.execute("DELETE FROM subjects WHERE subject_key = ?", (each,))
        connection.execute(
            "UPDATE events SET event_id = 'erased-' || sequence, request_id = '' WHERE subject_key = ?", (each,)
        )
        connection.execute(
            "INSERT INTO events (event_id, subject_key, type, time_ms) VALUES (?, ?, ?, ?)",
            (f"erase-{secrets.token_hex(8)}", each, ERASE, time_ms),
        )
    return key != 0


def _mark_known(connection: sqlite3.Connection, log_id: str, key: int) -> None:
    for row in connection.execute("SELECT kind, external_id FROM subjects WHERE subject_key = ?", (key,)).fetchall():
        mark = erasure_mark(log_id, join_name(*row))
        connection.execute("INSERT OR IGNORE INTO erasures (mark) VALUES (?)", (mark,))
