"""When the clients ask again, and when they leave a busy server alone."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from headrace.client.methods import Methods
from headrace.client.rpc import Attempts, RetryBudget
from headrace.errors import HeadraceError, OverloadedError, StoreError, UnavailableError


class Failure(grpc.RpcError):  # type: ignore[misc]
    """What grpcio raises."""

    def __init__(self, text: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        self._text, self._code = text, code

    def code(self) -> Any:
        return self._code

    def details(self) -> str:
        return self._text


BUSY = Failure("OverloadedError: the server is asked for more than it can answer")
GONE = Failure("failed to connect to all addresses")


def retries(budget: RetryBudget, failure: Failure, rpc: Any = Methods.recommend) -> tuple[int, HeadraceError | None]:
    """How often one call of 1000 s is sent again, 50 times at most, and the error that ends it."""
    attempts = Attempts(rpc, 1000.0, budget)
    for n in range(50):
        try:
            assert 0 <= attempts.pause_s(failure) <= 0.5
        except HeadraceError as error:
            return n, error
    return 50, None


def test_server_that_is_not_there_is_asked_until_the_deadline() -> None:
    assert retries(RetryBudget(), GONE) == (50, None)
    late = Attempts(Methods.recommend, 1e-9, RetryBudget())
    with pytest.raises(UnavailableError):
        late.pause_s(GONE)


@pytest.mark.parametrize(("failure", "error"), [(BUSY, OverloadedError), (Failure("StoreError: no"), StoreError)])
def test_server_that_refuses_is_asked_again_within_a_budget(failure: Failure, error: type[HeadraceError]) -> None:
    budget = RetryBudget()
    n, raised = retries(budget, failure)
    assert n == 10
    assert isinstance(raised, error)
    # from then on one retry for every ten calls
    assert sum(retries(budget, failure)[0] for _ in range(100)) == pytest.approx(10, abs=1)


def test_calls_that_are_answered_earn_the_budget_back() -> None:
    budget = RetryBudget()
    retries(budget, BUSY)
    for _ in range(1000):
        Attempts(Methods.recommend, 1.0, budget)
    assert retries(budget, BUSY)[0] == 10


def test_what_may_not_be_sent_twice_is_never_sent_again() -> None:
    assert retries(RetryBudget(), GONE, Methods.bid)[0] == 0
    too_often = Failure("RateLimitError: a asks more than 10 times a second", grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert retries(RetryBudget(), too_often)[0] == 0
