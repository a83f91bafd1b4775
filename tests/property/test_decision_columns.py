"""Columns of decided batches against plain loops, and frames of any bytes against themselves."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.decisions.batch import Decided
from headrace.decisions.columns import Block, block_of, digest, win_rate_at
from headrace.decisions.layout import frame, frames, start_of_segment
from headrace.kernels.price import Market, Offers
from headrace.kernels.price import win_rate_at as one_rate

N_LINES, TRIES = 7, 3


def batch(rng: np.random.Generator, terms: Any) -> Decided:
    """A batch as if it had been decided: everything random that the columns do not depend on."""
    n = int(rng.integers(1, 5))
    lines = [np.sort(rng.choice(N_LINES, rng.integers(0, N_LINES + 1), replace=False)) for _ in range(n)]
    indptr = np.cumsum([0, *map(len, lines)]).astype(np.int64)
    c = int(indptr[-1])
    request = np.repeat(np.arange(n, dtype=np.int32), rng.integers(0, 3, n))
    ranked = np.full((len(request), TRIES), -1)
    for row, of in enumerate(request):
        offers = rng.permutation(np.arange(indptr[of], indptr[of + 1]))[: rng.integers(0, TRIES + 1)]
        ranked[row, : len(offers)] = offers
    bids = np.where(ranked >= 0, rng.integers(1, 10**6, ranked.shape), 0)
    won = [int(row[0]) if rng.random() < 0.7 else -1 for row in ranked]
    sizes = rng.integers(0, 3, 3 * n)
    return Decided(
        requests=SimpleNamespace(  # type: ignore[arg-type]
            seeds=rng.integers(0, 2**63, n).astype(np.uint64),
            exchanges=[f"x{i}" for i in rng.integers(0, 3, n)],
            placements=[f"p{i}" for i in rng.integers(0, 3, len(request))],
        ),
        board=None,  # type: ignore[arg-type]
        model=SimpleNamespace(market=Market(np.array([0.0, 1e5, 1e6]), np.sort(rng.random((2, 3)))[:, [0, 1, 2]])),  # type: ignore[arg-type]
        terms=terms,
        asked=SimpleNamespace(  # type: ignore[arg-type]
            time_ms=rng.integers(0, 10**12, n),
            currency_rows=rng.integers(0, 2, n).astype(np.int32),
            term_indptr=np.cumsum([0, *sizes]).astype(np.int32),
            terms=rng.integers(0, 99, sizes.sum()).astype(np.int32),
        ),
        matches=SimpleNamespace(counts=rng.integers(0, 9, (n, 2)), indptr=np.arange(n + 1) * 2),  # type: ignore[arg-type]
        offers=Offers(indptr, np.concatenate(lines).astype(np.int32), rng.random(c)),
        positions=rng.integers(0, 5, c).astype(np.int32),
        auctions=SimpleNamespace(  # type: ignore[arg-type]
            request=request,
            market_row=rng.integers(0, 2, len(request)).astype(np.int32),
            floor_cpm=rng.integers(0, 10**6, len(request)),
            first_price=rng.random(len(request)) < 0.5,
        ),
        draft=SimpleNamespace(  # type: ignore[arg-type]
            value_cpm=rng.integers(0, 10**6, c),
            given_up={row: 1.0 for row, at in enumerate(won) if at >= 0 and rng.random() < 0.2},
            ranked=ranked,
            bids=bids,
            winner=won,
            bid_cpm=[int(bids[row, 0]) if at >= 0 else 0 for row, at in enumerate(won)],
            reasons=[0 if at >= 0 else 3 for at in won],
            tokens=[f"t{rng.integers(1 << 60)}" if at >= 0 else None for at in won],
        ),
        subject_keys=rng.integers(0, 2**62, n) if rng.random() < 0.5 else np.zeros(0, np.int64),
        sequence=int(rng.integers(0, 10**9)),
    )


def plain(each: Decided, impression: int) -> dict[str, Any]:
    """What a record of one impression must say, one field after another."""
    request = int(each.auctions.request[impression])
    start, end = each.offers.indptr[request : request + 2].tolist()
    winner = each.draft.winner[impression]
    ends = each.asked.term_indptr[3 * request : 3 * request + 4].tolist()
    ranked = {at: rank for rank, at in enumerate(each.draft.ranked[impression].tolist()) if at >= 0}
    return {
        "impression": impression - each.auctions.request.tolist().index(request),
        "seed": int(each.requests.seeds[request]),
        "time_ms": int(each.asked.time_ms[request]),
        "subject": int(each.subject_keys[request]) if len(each.subject_keys) else 0,
        "sequence": each.sequence,
        "floor_cpm": int(each.auctions.floor_cpm[impression]),
        "first_price": int(each.auctions.first_price[impression]),
        "market_row": int(each.auctions.market_row[impression]),
        "explored": int(impression in each.draft.given_up),
        "currency": int(each.asked.currency_rows[request]),
        "bid_cpm": each.draft.bid_cpm[impression],
        "reason": each.draft.reasons[impression],
        "line": int(each.offers.lines[winner]) if winner >= 0 else -1,
        "value_cpm": int(each.draft.value_cpm[winner]) if winner >= 0 else 0,
        "n_offers": end - start,
        "n_fit": int(each.matches.counts[request, 0]),
        "terms": [each.asked.terms[a:b].tolist() for a, b in itertools.pairwise(ends)],
        "token": digest(each.draft.tokens[impression] or "") if winner >= 0 else bytes(16),
        "candidates": [
            (
                int(each.offers.lines[at]),
                int(each.positions[at]),
                float(each.offers.probability[at]),
                int(each.draft.value_cpm[at]),
                float(each.terms.multiplier[each.offers.lines[at]]),
                ranked.get(at, -1),
                int(each.draft.bids[impression][ranked[at]]) if at in ranked else 0,
            )
            for at in range(start, end)
        ],
    }


def told(block: Block, row: int) -> dict[str, Any]:
    """The same from a block."""
    auction = block.auctions[row]
    first = int(auction["candidate_start"])
    ends = np.cumsum([int(auction["term_start"]), *auction["n_terms"].tolist()]).tolist()
    names = ("line", "position", "probability", "value_cpm", "multiplier", "rank", "bid_cpm")
    found = {
        name: auction[name].item()
        for name in (
            "impression", "seed", "time_ms", "subject", "sequence", "floor_cpm", "first_price", "explored",
            "market_row", "currency", "bid_cpm", "reason", "line", "value_cpm", "n_offers", "n_fit",
        )
    }  # fmt: skip
    return found | {
        "terms": [block.terms[a:b].tolist() for a, b in itertools.pairwise(ends)],
        "token": bytes(auction["token"]),
        "candidates": [
            tuple(each[name].item() for name in names)
            for each in block.candidates[first : first + int(auction["n_candidates"])]
        ],
    }


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_a_block_says_what_the_batches_said(seed: int, n_batches: int) -> None:
    rng = np.random.default_rng(seed)
    terms = SimpleNamespace(
        multiplier=rng.random(N_LINES),
        premium_cpm=rng.integers(0, 9, N_LINES),
        affordable_cpm=rng.integers(0, 10**6, N_LINES),
        exhausted=rng.random(N_LINES) < 0.2,
        max_bid_cpm=rng.integers(1, 10**6, N_LINES),
    )
    group = [batch(rng, terms) for _ in range(n_batches)]
    group = [each._replace(model=group[0].model) for each in group]
    every = [(each, row) for each in group for row in range(len(each.draft.reasons))]
    weights = rng.choice([0.0, 1.0, 4.0], len(every))
    block, exchanges, placements = block_of(group, 0, weights, N_LINES)
    kept = [every[row] for row in np.flatnonzero(weights)]
    again = Block.of_bytes(block.to_bytes())
    assert len(again.auctions) == len(kept)
    for row, (each, impression) in enumerate(kept):
        assert told(again, row) == plain(each, impression)
        assert exchanges[row] == each.requests.exchanges[each.auctions.request[impression]]
        assert placements[row] == each.requests.placements[impression]
    assert again.auctions["weight"].tolist() == weights[weights > 0].tolist()
    limited, _, _ = block_of(group, 0, weights, TRIES)
    assert (limited.auctions["n_candidates"] == np.minimum(again.auctions["n_candidates"], TRIES)).all()
    assert (limited.candidates["rank"] >= 0).sum() == (again.candidates["rank"] >= 0).sum()


@given(st.integers(0, 2**32 - 1))
def test_win_rates_are_those_of_the_bidder(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.cumsum(rng.random(6) + 0.01) * 1000.0
    market = Market(edges, np.sort(rng.random((3, 6)), axis=1))
    rows, bids = rng.integers(0, 3, 20).astype(np.int32), rng.integers(0, 8000, 20)
    expected = [one_rate(float(bid), edges, market.win_rate[row]) for row, bid in zip(rows, bids, strict=True)]
    np.testing.assert_allclose(win_rate_at(market, rows, bids), expected, rtol=1e-12)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.tuples(st.integers(1, 5), st.binary(max_size=40)), max_size=6), cut=st.floats(0, 1))
def test_frames_come_back_up_to_where_the_file_was_cut(
    tmp_path: Path, parts: list[tuple[int, bytes]], cut: float
) -> None:
    raw = start_of_segment() + b"".join(frame(kind, payload) for kind, payload in parts)
    ends = np.cumsum([len(start_of_segment()), *(len(frame(*part)) for part in parts)])
    size = round(cut * len(raw))
    (tmp_path / "cut.records").write_bytes(raw[:size])
    assert list(frames(tmp_path / "cut.records")) == parts[: int((ends[1:] <= size).sum())]
