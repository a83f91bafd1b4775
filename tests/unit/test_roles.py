"""The table of roles names every RPC and HTTP route there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headrace.security.roles import ACTION_ROUTE, BID_ROUTE, GRANTS, METRICS, NOTICE_ROUTES, OPEN, Role

PROTOS = Path(__file__).parents[2] / "proto" / "headrace" / "v1"
ROUTES = {BID_ROUTE, ACTION_ROUTE, METRICS, *NOTICE_ROUTES}
SHARED = {"/headrace.v1.BidderService/ExplainBid"}
"""For whoever bids and whoever pays."""
MONEY = {f"/headrace.v1.CampaignsService/{name}" for name in ("SetFence", "CloseReservation")}


def rpcs() -> set[str]:
    found = set()
    for file in PROTOS.glob("*.proto"):
        text = file.read_text("utf-8")
        for service, body in re.findall(r"^service (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            found |= {f"/headrace.v1.{service}/{name}" for name in re.findall(r"^  rpc (\w+)\(", body, re.MULTILINE)}
    return found


def test_every_rpc_and_route_stands_in_the_table() -> None:
    assert len(rpcs()) > 15
    assert set().union(*GRANTS.values()) | OPEN == rpcs() | ROUTES


def test_an_admin_may_do_everything() -> None:
    assert GRANTS[Role.ADMIN] == (rpcs() | ROUTES) - OPEN


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.ADMIN}))
def test_only_an_admin_moves_money_by_hand(role: Role) -> None:
    assert not MONEY & GRANTS[role]


def test_each_thing_but_an_admin_s_belongs_to_one_other_role() -> None:
    for method in sorted(GRANTS[Role.ADMIN] - MONEY - SHARED - {"/headrace.v1.OperationsService/ReloadConfig"}):
        assert len([role for role in Role if method in GRANTS[role]]) == 2, method


def test_bids_are_explained_to_whoever_bids_and_whoever_pays() -> None:
    assert {role for role in Role if GRANTS[role] >= SHARED} == {Role.AD_PLATFORM, Role.OPERATOR, Role.ADMIN}
