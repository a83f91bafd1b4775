"""The exchange of the crash stress: what it charges for a bid, and which notices it sends, follow from the bid's token.

So its books need no memory: whoever has the tokens that left the bidder knows what each of them cost.
"""

from __future__ import annotations

import binascii
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.ledger.tokens import BODY, TOKEN_BYTES, TOKEN_LENGTH

WIN, BILLING, LOSS = 1, 2, 3
WIN_SHARE, UNTOLD_SHARE, LATE_SHARE = 0.45, 0.03, 0.02
OVERPRICED, TWICE, FORGED, WIN_NOTICE = 0.003, 0.05, 0.01, 0.5


@dataclass(frozen=True, slots=True)
class Bids:
    """Columns of bids that left: tokens, what they say, and what the exchange made of them.

    prices : CPM micros that are charged, 0 for a loss; never above the bid.
    told : whether a notice of the end is ever sent; late : sent only long after.
    """

    tokens: npt.NDArray[np.bytes_]
    bodies: npt.NDArray[np.void]
    wins: npt.NDArray[np.bool_]
    prices: npt.NDArray[np.int64]
    told: npt.NDArray[np.bool_]
    late: npt.NDArray[np.bool_]

    def texts(self, rows: npt.NDArray[np.intp]) -> list[str]:
        text = self.tokens[rows].tobytes().decode("ascii")
        return [text[at : at + TOKEN_LENGTH] for at in range(0, len(text), TOKEN_LENGTH)]


def read_bids(text: bytes) -> Bids:
    """Bids from their tokens, one after another; a last one that a kill cut off is dropped."""
    n = len(text) // TOKEN_LENGTH
    text = text[: n * TOKEN_LENGTH]
    raw = np.frombuffer(binascii.a2b_base64(text.translate(bytes.maketrans(b"-_", b"+/"))), np.uint8)
    table = raw.reshape(n, TOKEN_BYTES)
    bodies = table[:, : BODY.itemsize].copy().view(BODY).reshape(-1)
    dice = np.ascontiguousarray(table[:, BODY.itemsize :]).view("<u4") / 2.0**32
    wins = dice[:, 0] < WIN_SHARE
    prices = np.where(wins, (bodies["cpm"] * dice[:, 1]).astype(np.int64), 0)
    told = dice[:, 2] >= UNTOLD_SHARE
    late = told & (dice[:, 3] < LATE_SHARE)
    return Bids(np.frombuffer(text, f"S{TOKEN_LENGTH}"), bodies, wins, prices, told, late)


@dataclass(slots=True)
class Notices:
    """Columns of one call of `Ledger.notify`; ``honest`` marks bills that must be accepted or known already."""

    types: list[int]
    tokens: list[str]
    prices: list[int]
    honest: list[bool]


def notices_of(bids: Bids, rows: npt.NDArray[np.intp], dice: random.Random) -> Notices:
    """What the exchange says of some bids, in any order: a share twice, a share forged, a share overpriced first."""
    entries: list[tuple[int, str, int, bool]] = []
    texts = bids.texts(rows)
    wins, prices, cpms = bids.wins[rows].tolist(), bids.prices[rows].tolist(), bids.bodies["cpm"][rows].tolist()
    for token, won, price, cpm in zip(texts, wins, prices, cpms, strict=True):
        chance = dice.random()
        if not won:
            entries.append((LOSS, token, -1, False))
        else:
            entries.append((BILLING, token, price, True))
            if chance < WIN_NOTICE:
                entries.append((WIN, token, price, False))
            if chance > 1 - OVERPRICED:
                entries.append((BILLING, token, cpm + 1 + dice.randrange(cpm), False))
        if chance < TWICE:
            entries.append(entries[-1])
        elif chance < TWICE + FORGED:
            entries.append((BILLING, forged(token, dice), price, False))
    dice.shuffle(entries)
    return Notices(*(list(column) for column in zip(*entries, strict=True))) if entries else Notices([], [], [], [])


def forged(token: str, dice: random.Random) -> str:
    """The token with one sign changed."""
    at = dice.randrange(TOKEN_LENGTH)
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]


@dataclass(slots=True)
class Charges:
    """The exchange's books: nanos by line item and budget day, and by line item and lease."""

    by_day: dict[tuple[int, int], int]
    by_lease: dict[tuple[int, int], int]
    n_bids: int = 0

    def add(self, bids: Bids) -> None:
        """Take in more bids."""
        self.n_bids += len(bids.tokens)
        for table, column in ((self.by_day, "day"), (self.by_lease, "lease")):
            keys = np.stack([bids.bodies["account"].astype(np.int64), bids.bodies[column].astype(np.int64)])
            found, places = np.unique(keys[:, bids.wins], axis=1, return_inverse=True)
            sums = np.zeros(found.shape[1], np.int64)
            np.add.at(sums, places.reshape(-1), bids.prices[bids.wins])
            for account, key, nanos in zip(*found.tolist(), sums.tolist(), strict=True):
                table[account, key] = table.get((account, key), 0) + nanos

    def merge(self, other: Charges) -> None:
        """Take in another process's bids; leases of different processes may have one number."""
        self.n_bids += other.n_bids
        for key, nanos in other.by_day.items():
            self.by_day[key] = self.by_day.get(key, 0) + nanos

    def of_days(self, accounts: Sequence[int]) -> dict[int, int]:
        """Micros charged to line items by budget day, rounded down: no more than that is owed."""
        nanos: dict[int, int] = {}
        for (account, day), sum_ in self.by_day.items():
            if account in accounts:
                nanos[day] = nanos.get(day, 0) + sum_
        return {day: sum_ // 1000 for day, sum_ in nanos.items()}

    def billed(self, account: int) -> int:
        """Micros that a ledger owes for the bills of a line item: each lease rounded up once."""
        return sum(-(-nanos // 1000) for (owner, _), nanos in self.by_lease.items() if owner == account)
