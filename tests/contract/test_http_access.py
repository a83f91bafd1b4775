"""Every role at every HTTP route: who may bid, that notices need no key, and that no header gets around it."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace.config import Config, HttpConfig
from headrace.front import Call, Reply
from headrace.security.access import KeyedAccess
from headrace.security.keys import create_key
from headrace.security.roles import BID_ROUTE, GRANTS, NOTICE_ROUTES, Role
from headrace.service.dispatch import Gates
from headrace.service.http import HttpServer
from headrace.service.method import Method

NOW = datetime.now(UTC)
TENANTS = ("shoes", "tea")


class Rig:
    """An HTTP server of stub methods for two tenants; ``reached`` names the tenants whose handler was called."""

    def __init__(self, keys: Path) -> None:
        self.made = {
            (role, tenant): create_key(keys, role, tenant=tenant, now=NOW)[1] for role in Role for tenant in TENANTS
        }
        self.of_all = create_key(keys, Role.ADMIN, now=NOW)[1]
        self.reached: list[str] = []
        offered = {tenant: [self._method(name, tenant) for name in (BID_ROUTE, *NOTICE_ROUTES)] for tenant in TENANTS}
        config = Config(http=HttpConfig(listen="127.0.0.1:0", workers=1))
        self.server = HttpServer(offered, config, Gates(access=KeyedAccess(keys, TENANTS)))
        self.connection = http.client.HTTPConnection(self.server.start(), timeout=10)

    def _method(self, name: str, tenant: str) -> Method:
        def answer(calls: Sequence[Call]) -> list[Reply]:
            self.reached += [tenant] * len(calls)
            return [Reply() for _ in calls]

        return Method(name, answer=answer)

    def bid(self, **headers: str) -> tuple[int, str]:
        """Status and text of one bid request."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request("POST", BID_ROUTE, b"{}", {"content-type": "application/json"} | named)
        answer = self.connection.getresponse()
        return answer.status, answer.read().decode()

    def notice(self, path: str, **headers: str) -> int:
        self.connection.request("GET", path, headers=headers)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status

    def close(self) -> None:
        self.connection.close()
        self.server.drain()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "keys.toml")
    yield rig
    rig.close()


def test_each_role_bids_where_it_may_and_for_its_own_tenant(rig: Rig) -> None:
    for (role, tenant), whole in rig.made.items():
        rig.reached.clear()
        status, text = rig.bid(authorization=f"Bearer {whole}")
        if BID_ROUTE in GRANTS[role]:
            assert (status, rig.reached) == (204, [tenant])
            other = next(each for each in TENANTS if each != tenant)
            assert rig.bid(x_api_key=whole, headrace_tenant=other)[0] == 403
            assert rig.reached == [tenant]
        else:
            assert (status, rig.reached) == (403, [])
            assert f"the role {role} does not include" in text
    rig.reached.clear()
    assert rig.bid(x_api_key=rig.of_all, headrace_tenant="tea")[0] == 204
    assert rig.bid(x_api_key=rig.of_all)[0] == 404
    assert rig.reached == ["tea"]


def test_no_key_in_force_is_one_and_the_same_refusal(rig: Rig) -> None:
    whole = rig.made[Role.AD_PLATFORM, "tea"]
    answers = {rig.bid(), *(rig.bid(x_api_key=wrong) for wrong in (whole[:-1], whole + "x", "hr_x_y", "\xe9" * 40))}
    assert {status for status, _ in answers} == {401}
    assert len(answers) == 1
    assert whole not in answers.pop()[1]
    assert not rig.reached


def test_notice_urls_need_no_key_and_reach_the_tenant_of_their_path(rig: Rig) -> None:
    for path in sorted(NOTICE_ROUTES):
        first, _, rest = path[1:].partition("/")
        for tenant in TENANTS:
            rig.reached.clear()
            assert rig.notice(f"/{first}/{tenant}/{rest}?token=t") < 300
            assert rig.reached == [tenant]
            # the path counts, whatever a header says
            other = next(each for each in TENANTS if each != tenant)
            rig.notice(f"/{first}/{tenant}/{rest}?token=t", **{"headrace-tenant": other})
            assert rig.reached == [tenant, tenant]
        assert rig.notice(f"/{first}/wine/{rest}?token=t") == 404


def test_nothing_else_is_reached(rig: Rig) -> None:
    for path in ("/", "/openrtb2", "/openrtb2/tea/bid/", "/openrtb2//win", "/openrtb2/../metrics", "/metrics"):
        assert rig.notice(path) in (404, 405)
    assert not rig.reached
