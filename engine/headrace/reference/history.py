"""What the kernels of headrace.kernels.history compute, in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

PURCHASE = 3
RETURN = 4

Entry = tuple[int, int, float, int]
"""Item row, event type, number of events, time of the last one."""


def append_events(entries: list[Entry], events: Sequence[Entry], max_history: int) -> list[Entry]:
    """A person's entries after some more events, in order of first appearance."""
    kept = list(entries)
    for row, kind, count, time_ms in events:
        places = [i for i, entry in enumerate(kept) if entry[:2] == (row, kind)]
        if places:
            old = kept[places[0]]
            kept[places[0]] = (row, kind, old[2] + count, max(old[3], time_ms))
            continue
        others = [i for i, entry in enumerate(kept) if entry[1] not in (PURCHASE, RETURN)]
        if kind not in (PURCHASE, RETURN) and len(others) >= max_history:
            del kept[min(others, key=lambda i: (kept[i][3], i))]
        kept.append((row, kind, count, time_ms))
    return kept


@dataclass
class Item:
    """One item of a merged history."""

    weight: float = 0.0
    n_bought: float = 0.0
    last_ms: int = 0
    last_bought_ms: int = 0


@dataclass
class Person:
    """A merged history; items by row, in order of first appearance."""

    items: dict[int, Item] = field(default_factory=dict)
    n_events: float = 0.0
    last_event_ms: int = 0


def merge(entries: Sequence[Entry], type_weights: Sequence[float]) -> Person:
    """All entries of a person with one record an item; purchases less returns weigh one purchase each, at least 0."""
    person = Person()
    for row, kind, count, time_ms in entries:
        item = person.items.setdefault(row, Item())
        item.last_ms = max(item.last_ms, time_ms)
        person.last_event_ms = max(person.last_event_ms, time_ms)
        if kind == RETURN:
            item.n_bought -= count
            continue
        person.n_events += count
        if kind == PURCHASE:
            item.n_bought += count
            item.last_bought_ms = max(item.last_bought_ms, time_ms)
        else:
            item.weight += count * type_weights[kind]
    for item in person.items.values():
        item.n_bought = item.n_bought if item.n_bought > 1e-3 else 0.0
        item.weight += item.n_bought * type_weights[PURCHASE]
    return person


def fold_in_input(person: Person, n_items: int, alpha: float, max_history: int) -> list[tuple[int, float]]:
    """Rows and confidences of the latest max_history items, of which the artifact knows those below n_items."""
    order = sorted(range(len(person.items)), key=lambda i: (-list(person.items.values())[i].last_ms, i))
    chosen = set(order[:max_history])
    pairs = [(row, alpha * item.weight) for i, (row, item) in enumerate(person.items.items()) if i in chosen]
    return [(row, confidence) for row, confidence in pairs if row < n_items and confidence > 0]
