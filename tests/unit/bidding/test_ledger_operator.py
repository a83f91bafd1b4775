"""What an operator does to a running server's ledger: fence it, and end reservations by hand."""

from __future__ import annotations

import pytest

from headrace.errors import InvalidRequestError, LedgerNotOwnerError, NotFoundError
from headrace.events.store import Store
from headrace.ledger.ledger import Ledger
from headrace.ledger.tokens import TokenKeys
from headrace.v1 import bidder_pb2, campaigns_pb2

ACCEPTED = bidder_pb2.NOTICE_OUTCOME_ACCEPTED


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ledger"


@pytest.fixture
def real(tmp_path, folder, factories, make):
    """The path of ``path`` with a campaign, on a ledger of its own with a store beside."""
    store = Store(folder / "money.db")
    ledger = Ledger(folder, store, clock_ms=lambda: make.noon_ms)
    assert ledger.try_acquire()
    path = make.path(tmp_path, factories.make_artifact(), ledger)
    path.fund()
    path.create()
    yield path
    path.ledger.close()
    store.close()
    path.close()


def answer_of(path, method, request):
    handler = next(each.handle for each in path.admin.methods() if each.name.endswith("/" + method))
    (answer,) = handler([request], [path.call()])
    if isinstance(answer, Exception):
        raise answer
    return answer


def fence(path, engaged, reason="restored from a backup"):
    answer_of(path, "SetFence", campaigns_pb2.SetFenceRequest(engaged=engaged, reason=reason))


def close(path, **fields):
    fields = {"reason": "bill file of May"} | fields
    return answer_of(path, "CloseReservation", campaigns_pb2.CloseReservationRequest(**fields)).outcome


def line(path):
    return next(state for state in path.ledger.accounts() if state.account_id == "acme/spring/line")


def audited(path, *actions):
    marks = ", ".join("?" * len(actions))
    return path.ledger._store.read(
        f"SELECT action, who, why FROM ledger_audit WHERE action IN ({marks}) ORDER BY rowid", actions
    )


def test_a_fence_holds_every_bid_until_it_is_taken_away(real):
    fence(real, True)
    assert real.bid_one().no_bid_reason == bidder_pb2.NO_BID_REASON_FENCED
    fence(real, False, "reconciled")
    assert real.bid_one().token
    assert audited(real, "fence", "unfence") == [
        ("fence", "a1b2 at ipv4:test", "restored from a backup"),
        ("unfence", "a1b2 at ipv4:test", "reconciled"),
    ]


@pytest.mark.parametrize("engaged", [True, False])
@pytest.mark.parametrize("reason", ["", "x" * 257])
def test_a_fence_needs_a_reason(real, engaged, reason):
    with pytest.raises(InvalidRequestError, match="reason"):
        fence(real, engaged, reason)
    assert audited(real, "fence", "unfence") == []


def test_a_reservation_closed_as_lost_frees_its_money(real):
    token = real.bid_one().token
    assert line(real).reserved_micros > 0
    assert close(real, token=token) == ACCEPTED
    assert (line(real).reserved_micros, line(real).billed_micros) == (0, 0)
    assert close(real, token=token) == bidder_pb2.NOTICE_OUTCOME_DUPLICATE
    assert close(real, token=token, price_cpm_micros=1_000) == bidder_pb2.NOTICE_OUTCOME_CONFLICT
    assert audited(real, "close")[0] == ("close", "a1b2 at ipv4:test", "bill file of May")


@pytest.mark.parametrize(("price", "billed"), [(2_000, 2), (0, 0)])
def test_a_reservation_closed_at_a_price_is_billed_at_it(real, price, billed):
    assert close(real, token=real.bid_one().token, price_cpm_micros=price) == ACCEPTED
    assert (line(real).reserved_micros, line(real).billed_micros) == (0, billed)
    real.ledger.check_invariant()


def test_a_price_above_the_reservation_moves_nothing(real):
    bid = real.bid_one()
    before = line(real)
    outcome = close(real, token=bid.token, price_cpm_micros=bid.bid_cpm_micros + 1)
    assert outcome == bidder_pb2.NOTICE_OUTCOME_DISPUTED
    assert line(real) == before


def test_a_forged_token_and_a_malformed_one_move_nothing(real):
    token = real.bid_one().token
    before = line(real)
    forged = token[:20] + ("A" if token[20] != "A" else "B") + token[21:]
    assert close(real, token=forged) == bidder_pb2.NOTICE_OUTCOME_FORGED
    assert close(real, token="never issued") == bidder_pb2.NOTICE_OUTCOME_REFUSED
    assert line(real) == before


def test_a_lease_that_lost_its_reservations_with_the_power_gives_the_money_back(real, folder, make):
    token = real.bid_one().token
    bodies, _, _ = TokenKeys(folder / "ledger.keys").verify([token])
    lease = int(bodies["lease"][0])
    with pytest.raises(NotFoundError, match="lease_id"):
        close(real, lease_id=lease)
    real.ledger._owner.release()
    real.ledger._books.native.freeze()
    (folder / "ledger.reservations").unlink()
    real.ledger = Ledger(folder, real.ledger._store, clock_ms=lambda: make.noon_ms)
    assert real.ledger.try_acquire()
    real.admin._ledger = real.ledger
    assert line(real).reserved_micros > 0
    assert close(real, lease_id=lease) == ACCEPTED
    assert line(real).reserved_micros == 0
    assert audited(real, "close_lease") == [("close_lease", "a1b2 at ipv4:test", "bill file of May")]


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("token and lease_id", {}),
        ("token and lease_id", {"token": "t", "lease_id": 1}),
        ("price_cpm_micros", {"lease_id": 1, "price_cpm_micros": 0}),
        ("price_cpm_micros", {"token": "t", "price_cpm_micros": -1}),
        ("price_cpm_micros", {"token": "t", "price_cpm_micros": 10**15 + 1}),
        ("lease_id", {"lease_id": -1}),
        ("token", {"token": "t" * 257}),
        ("reason", {"token": "t", "reason": ""}),
        ("reason", {"token": "t", "reason": "x" * 257}),
    ],
)
def test_a_close_that_names_too_little_or_too_much_is_refused(real, field, fields):
    with pytest.raises(InvalidRequestError, match=field):
        close(real, **fields)
    assert audited(real, "close", "close_lease") == []


def test_only_the_owner_closes_but_any_process_fences(real, folder, make):
    token = real.bid_one().token
    other = Ledger(folder, real.ledger._store, clock_ms=lambda: make.noon_ms)
    owner, real.admin._ledger = real.ledger, other
    for named in ({"token": token}, {"lease_id": 1}):
        with pytest.raises(LedgerNotOwnerError):
            close(real, **named)
    fence(real, True)
    owner.tick(make.noon_ms + 200)
    assert real.bid_one().no_bid_reason == bidder_pb2.NO_BID_REASON_FENCED
    other.close()
