"""The ledger's rules in plain Python, one token at a time, without leases: what the native ledger must agree with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

WIN, BILLING, LOSS, CLOSE_LOST, CLOSE_BILLED = 1, 2, 3, 4, 5
ACCEPTED, DUPLICATE, LATE, DISPUTED, FORGED, CONFLICT, REFUSED = 1, 2, 3, 4, 5, 6, 7
HELD = ("reserved", "won", "disputed")


def ceil_micros(nanos: int) -> int:
    """Whole micros that cover nanos."""
    return -(-nanos // 1000)


@dataclass
class Token:
    """One reservation: ``cpm`` in micros per thousand impressions, ``lease`` only for the rounding of bills."""

    leaf: str
    lease: int
    day: int
    cpm: int
    since_ms: int
    state: str = "reserved"
    price: int = 0
    claim: int = 0

    @property
    def micros(self) -> int:
        return ceil_micros(self.cpm)


@dataclass
class Amounts:
    """Micros of one node."""

    billed: int = 0
    won: int = 0
    reserved: int = 0
    late: int = 0
    disputed: int = 0


@dataclass
class ReferenceLedger:
    """All tokens ever issued; every amount is recomputed from them.

    ttl_ms : for each line item in EXPIRE mode, how long it holds.
    extra : micros that a line item holds for reservations that a power loss made unknown.
    """

    tokens: list[Token] = field(default_factory=list)
    ttl_ms: dict[str, int] = field(default_factory=dict)
    extra: dict[str, int] = field(default_factory=dict)

    def notify(self, kind: int, token: Token, price: int | None) -> int:
        """The outcome of one notice, after which the token is in its new state."""
        acceptable = price is not None and 0 <= price <= token.cpm
        state, outcome = _turn(kind, token.state, acceptable)
        if state == token.state:
            return outcome
        token.state = state
        claimed = ceil_micros(price if price is not None and price >= 0 else token.cpm)
        token.claim = claimed if state in ("disputed", "lost_disputed", "late") else 0
        token.price = price if acceptable and price is not None else 0
        return outcome

    def expire(self, now_ms: int) -> None:
        """Give back what was held longer than its line item allows."""
        for token in self.tokens:
            ttl = self.ttl_ms.get(token.leaf)
            if ttl is not None and token.state == "reserved" and token.since_ms + ttl <= now_ms:
                token.state = "expired"

    def amounts(self, account_id: str, day: int | None = None) -> Amounts:
        """Sums over the tokens below a node, of one budget day or of all."""
        total = Amounts()
        nanos: defaultdict[int, int] = defaultdict(int)
        for token in self._below(account_id, day):
            if token.state == "billed":
                nanos[token.lease] += token.price
            elif token.state == "late":
                total.late += token.claim
            elif token.state == "won":
                total.won += ceil_micros(token.price)
                total.reserved += token.micros - ceil_micros(token.price)
            elif token.state in HELD:
                total.reserved += token.micros
            if token.state in ("disputed", "lost_disputed"):
                total.disputed += token.claim
        total.billed = sum(ceil_micros(amount) for amount in nanos.values())
        return total

    def _below(self, account_id: str, day: int | None) -> Iterator[Token]:
        for token in self.tokens:
            if (token.leaf + "/").startswith(account_id + "/") and day in (None, token.day):
                yield token

    def extra_below(self, account_id: str) -> int:
        """Micros held below a node for reservations not known singly."""
        return sum(micros for leaf, micros in self.extra.items() if (leaf + "/").startswith(account_id + "/"))


def _turn(kind: int, state: str, acceptable: bool) -> tuple[str, int]:
    if kind == WIN:
        return _win(state, acceptable)
    if kind == BILLING:
        return _bill(state, acceptable)
    if kind == LOSS:
        if state in ("reserved", "expired"):
            return "lost", ACCEPTED
        return state, DUPLICATE if state in ("lost", "lost_disputed") else CONFLICT
    to = "lost" if kind == CLOSE_LOST else "billed"
    if state == to:
        return state, DUPLICATE
    if state == "lost_disputed" and to == "lost":
        return to, ACCEPTED
    if state not in HELD:
        return state, CONFLICT
    return (to, ACCEPTED) if acceptable or kind == CLOSE_LOST else (state, DISPUTED)


def _win(state: str, acceptable: bool) -> tuple[str, int]:
    if state == "reserved":
        return ("won", ACCEPTED) if acceptable else ("disputed", DISPUTED)
    if state == "lost":
        return "lost_disputed", DISPUTED
    return state, LATE if state == "expired" else DUPLICATE


def _bill(state: str, acceptable: bool) -> tuple[str, int]:
    if state in ("reserved", "won"):
        return ("billed", ACCEPTED) if acceptable else ("disputed", DISPUTED)
    if state == "disputed":
        return ("billed", ACCEPTED) if acceptable else (state, DUPLICATE)
    if state in ("lost", "expired", "lost_disputed"):
        return "late", LATE
    return state, DUPLICATE
