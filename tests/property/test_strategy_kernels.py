"""Strategies in the pricing kernel agree with the same functions run by Python, within the same limits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import Ask
from headrace.bidding.strategies.strategy import load_strategy
from headrace.kernels import price
from headrace.reference import price as plain_price

seeds = st.integers(0, 2**32 - 1)

SAID = """
from headrace import Ask, strategy

@strategy
def rooted(ask: Ask, a=1.0, b=2.0):
    if ask.first_price == 1 and ask.value_cpm > 3:
        return math.sqrt(ask.value_cpm * a) * ask.win_rate(ask.floor_cpm + 5e5) + ask.floor_cpm
    return ask.shaded_cpm * b - ask.time_left + ask.budget_left

@strategy
def wild(ask: Ask, a=1.0):
    y = ask.paced_cpm
    for i in range(4):
        y = y / (a - i) + ask.multiplier
    return math.log(y - ask.floor_cpm) * ask.highest_cpm if ask.highest_cpm > 9 else -1
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Compiled strategies, and the same functions as Python runs them, by NumPy's rules."""
    file = tmp_path_factory.mktemp("strategies") / "said.py"
    file.write_text(SAID)
    plain = {"math": SimpleNamespace(sqrt=np.sqrt, log=np.log)}
    exec(SAID.replace("@strategy", ""), plain)
    names = ("rooted", "wild")
    return [load_strategy(f"{file}:{name}") for name in names], [plain[name] for name in names]


@given(seeds, st.integers(0, 9), st.integers(1, 4), st.booleans())
def test_strategies_price_as_python_says_and_keep_the_rank(said, seed, n_offers, n_best, first):
    compiled, plain = said
    rng = np.random.default_rng(seed)
    m = 6
    terms = price.Terms(
        rng.choice([0, 1, 10**6, 10**16], m),
        rng.choice([1, 500, 10**12], m),
        rng.choice([1, 700, 10**15], m),
        rng.choice([0.0, 0.25, 1.0, 16.0], m),
        rng.random(m) < 0.2,
        rng.choice([0, 0, 400, 10**9], m),
        rng.random(m),
        rng.random(m),
    )
    rules = price.Strategies(
        address=np.array([each.address for each in compiled]),
        shades=np.array([each.shades for each in compiled]),
        row=rng.choice([0, 1, price.BUILT_IN, price.STOPPED], m).astype(np.int32),
        parameters=np.array([np.pad(rng.choice([0.0, 1.0, -1.0, 1e300], 2), (0, 6)) for _ in range(m)]),
        max_bid_cpm=int(rng.choice([600, 10**12])),
        max_over_value=float(rng.choice([0.5, 2.0])),
        ask=np.full((1, price.N_ASKED), np.nan),
        counts=np.zeros((2, 3), np.int64),
    )
    lines = rng.integers(0, m, n_offers).astype(np.int32)
    offers = price.Offers(np.array([0, n_offers]), lines, rng.choice([0.0, 1e-9, 0.5, 1.0, np.nan], n_offers))
    value_cpm = plain_price.value_offers(terms, offers)
    floor = int(rng.choice([0, 1, 500, 10**9]))
    auctions = price.Auctions(
        np.zeros(1, np.int32),
        np.array([floor]),
        np.array([first]),
        np.zeros(1, np.int32),
        np.empty((1, n_best), np.int64),
    )
    market = price.Market(np.array([0.0, 1e6]), np.array([[0.0, 1.0]]))
    ranked, bids = np.empty((1, n_best), np.int32), np.empty((1, n_best), np.int64)
    price.price_auctions(market, terms, rules, offers, value_cpm, auctions, ranked, bids)

    def say(row, parameters, asked):
        numbers = {name: np.float64(value) for name, value in asked.items()}
        ask = Ask(**numbers, prices=(0.0, 1e6), wins=(0.0, 1.0))
        with np.errstate(all="ignore"):
            return plain[row](ask, *parameters[: len(compiled[row].parameters)])

    expected, n_asked = [], 0
    lowest = max(floor, 1)
    for offer, line in enumerate(lines.tolist()):
        if terms.exhausted[line]:
            continue
        value = int(value_cpm[offer] + terms.premium_cpm[line])
        paced = min(int(value * terms.multiplier[line]), terms.max_bid_cpm[line], terms.affordable_cpm[line])
        shaded = paced
        if first and paced >= lowest:
            shaded = max(int(price.shade(float(paced), float(lowest), market.edges_cpm, market.win_rate[0])), lowest)
        asked = {"paced_cpm": paced, "shaded_cpm": shaded, "floor_cpm": floor, "first_price": float(first)}
        bid, was_asked = shaded if paced >= lowest else 0, 0
        if rules.row[line] != price.BUILT_IN:
            bid, was_asked = plain_price.strategic(terms, rules, say, line, value, asked)
        n_asked += was_asked
        if bid >= lowest:
            expected.append((-paced, offer, bid))
    best = [(offer, bid) for _, offer, bid in sorted(expected)[:n_best]]
    assert rules.counts[:, 0].sum() == n_asked
    found = list(zip(ranked[0].tolist(), bids[0].tolist(), strict=True))
    assert [offer for offer, _ in found[: len(best)]] == [offer for offer, _ in best]
    # the last bit of a root may differ, and with it a micro
    assert all(abs(ours - theirs) <= 1 + theirs * 1e-12 for (_, ours), (_, theirs) in zip(found, best, strict=False))
    if not best:
        assert found[0][0] == -1
        assert -found[0][1] in (price.BUDGET, price.BELOW_FLOOR, price.PACED, price.STRATEGY)
