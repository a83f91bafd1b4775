"""Every role at every method, over each door: what it may reaches a handler, what it may not does not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.config import Config, DoorConfig, ServerConfig
from headrace.errors import ConfigError
from headrace.front import Call, check_door
from headrace.security.access import KeyedAccess
from headrace.security.keys import create_key, revoke
from headrace.security.roles import GRANTS, Role
from headrace.service.dispatch import Gates
from headrace.service.method import Method
from headrace.service.server import Server

NOW = datetime.now(UTC)
STREAMS = {"/headrace.v1.BidderService/BidStream"}
METHODS = sorted(method for method in GRANTS[Role.ADMIN] if method.startswith("/headrace."))
OK, UNKNOWN, DENIED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


class Rig:
    """A server of stub methods that asks for keys; ``handled`` names what reached a handler, and for whom."""

    def __init__(self, door: str, keys: Path, tenants: Sequence[str] = ("",)) -> None:
        self.handled: list[tuple[str, str, str]] = []
        config = Config(
            server=ServerConfig(listen="127.0.0.1:0", workers=1, door=door), door=DoorConfig(reflection=False)
        )  # type: ignore[arg-type]
        offered = {tenant: [self._method(name, tenant) for name in METHODS] for tenant in tenants}
        self.access = KeyedAccess(keys, tenants)
        self.server = Server(offered, config, Gates(access=self.access))
        self.channel = grpc.insecure_channel(self.server.start())

    def _method(self, name: str, tenant: str) -> Method:
        def handle(requests: Sequence[Any], calls: Sequence[Call]) -> list[Any]:
            self.handled += [(call.method, tenant, call.caller) for call in calls]
            return [Empty() for _ in requests]

        return Method(name, Empty, handle, audited=True, stream=name in STREAMS)

    def call(self, method: str, *metadata: tuple[str, str]) -> tuple[grpc.StatusCode, str]:
        """Status and text of one call."""
        try:
            if method in STREAMS:
                list(self.channel.stream_stream(method)(iter([b""]), timeout=10, metadata=metadata))
            else:
                self.channel.unary_unary(method)(b"", timeout=10, metadata=metadata)
        except grpc.RpcError as failure:
            return failure.code(), failure.details()
        return OK, ""

    def close(self) -> None:
        self.channel.close()
        self.server.drain()


Make = Callable[..., Rig]


@pytest.fixture(params=["grpcio", "native"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    with contextlib.suppress(ConfigError):
        check_door(request.param)
        rigs: list[Rig] = []

        def make(*tenants: str) -> Rig:
            rigs.append(Rig(request.param, tmp_path / "keys.toml", tenants or ("",)))
            return rigs[-1]

        yield make
        for rig in rigs:
            rig.close()
        return
    pytest.skip("this build has no native door")


def bearer(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


def test_each_role_does_what_it_may_and_is_refused_the_rest(make: Make, tmp_path: Path) -> None:
    made = {role: create_key(tmp_path / "keys.toml", role, now=NOW) for role in Role}
    rig = make()
    for role, (key, whole) in made.items():
        for method in METHODS:
            rig.handled.clear()
            code, text = rig.call(method, bearer(whole))
            if method in GRANTS[role]:
                assert (code, rig.handled) == (OK, [(method, "", key.id)])
            else:
                assert (code, rig.handled) == (DENIED, [])
                assert text == f"PermissionDeniedError: the role {role} does not include {method}"


def test_without_a_key_in_force_no_method_is_reached_and_no_reason_is_given(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    _, good = create_key(file, Role.ADMIN, now=NOW)
    _, expired = create_key(file, Role.ADMIN, expires_days=1, now=NOW - timedelta(days=2))
    key, disabled = create_key(file, Role.ADMIN, now=NOW)
    revoke(file, key.id)
    rig = make()
    assert rig.call(METHODS[0], ("x-api-key", good))[0] == OK
    rig.handled.clear()
    nothing = [rig.call(method) for method in METHODS]
    wrong = [expired, disabled, good[:-1] + "!", "hr_x_y", "", "x" * 1000]
    answers = {*nothing, *(rig.call(METHODS[0], bearer(each)) for each in wrong)}
    answers |= {rig.call(METHODS[0], ("x-api-key", each)) for each in wrong}
    assert len(answers) == 1
    code, text = answers.pop()
    assert code == UNKNOWN
    assert good not in text
    assert not rig.handled


def test_a_key_reaches_its_own_tenant_alone(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    made = {tenant: create_key(file, Role.ADMIN, tenant=tenant, now=NOW)[1] for tenant in ("shoes", "tea")}
    _, of_all = create_key(file, Role.ADMIN, now=NOW)
    rig = make("shoes", "tea")
    method = "/headrace.v1.RecommenderService/Recommend"
    for tenant, other in (("shoes", "tea"), ("tea", "shoes")):
        rig.handled.clear()
        assert rig.call(method, bearer(made[tenant]))[0] == OK
        assert rig.call(method, bearer(made[tenant]), ("headrace-tenant", other))[0] == DENIED
        assert rig.call(method, bearer(of_all), ("headrace-tenant", tenant))[0] == OK
        assert {its for _, its, _ in rig.handled} == {tenant}
    assert rig.call(method, bearer(of_all))[0] == grpc.StatusCode.NOT_FOUND


def test_health_needs_no_key_and_reflection_can_be_switched_off(make: Make, tmp_path: Path) -> None:
    create_key(tmp_path / "keys.toml", Role.ADMIN, now=NOW)
    rig = make()
    answer = health_pb2_grpc.HealthStub(rig.channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    for version in ("v1", "v1alpha"):
        method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        with pytest.raises(grpc.RpcError) as failure:
            list(rig.channel.stream_stream(method)(iter([b""]), timeout=5))
        assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED
