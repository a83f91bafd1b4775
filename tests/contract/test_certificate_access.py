"""Callers known by their certificate, over each door: whose name counts, and what is never trusted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509

from headrace import Client, Connection, errors
from headrace.client import health
from headrace.config import Config, DoorConfig, ServerConfig, TlsConfig
from headrace.errors import ConfigError
from headrace.front import Call, check_door, make_door
from headrace.security.access import KeyedAccess
from headrace.service.dispatch import Gates
from headrace.service.method import Method
from headrace.service.server import Server
from headrace.v1 import bidder_pb2, recommender_pb2

KEYS = """
[[certificates]]
subject = "spiffe://shop/storefront"
role = "storefront"

[[certificates]]
subject = "ads.shop.example"
role = "ad_platform"

[[certificates]]
subject = "old storefront"
role = "storefront"

[[certificates]]
subject = "gone"
role = "storefront"
disabled = true
"""
BID = bidder_pb2.BidRequest(bid_request_id="b1")


class Rig:
    """A server with TLS that knows callers by certificate; ``callers`` names whom its handlers answered."""

    def __init__(self, door: str, folder: Path, certificates: ModuleType, required: bool) -> None:
        # grpcio asks for a certificate always or never
        required = required or door == "grpcio"
        self.optional = not required
        self.authority = certificates.Authority(folder)
        self.stranger = certificates.Authority(folder, "stranger")
        own = str(self.authority.issue("server", sans=[certificates.LOOPBACK]))
        tls = TlsConfig(
            certificate=own, key=own, client_ca=str(self.authority.file), require_client_certificate=required
        )
        keys = folder / "keys.toml"
        keys.write_text(KEYS)
        keys.chmod(0o600)
        self.callers: list[str] = []
        methods = [
            Method(
                "/headrace.v1.RecommenderService/Recommend",
                recommender_pb2.RecommendRequest,
                self._slates,
                audited=True,
            ),
            Method("/headrace.v1.BidderService/Bid", bidder_pb2.BidRequest, self._bids, audited=True),
        ]
        config = Config(server=ServerConfig(listen="127.0.0.1:0", workers=1, door=door), tls=tls)  # type: ignore[arg-type]
        self.server = Server({"": methods}, config, Gates(access=KeyedAccess(keys)))
        self.address = self.server.start()

    def _slates(self, requests: Sequence[Any], calls: Sequence[Call]) -> list[Any]:
        self.callers += [call.caller for call in calls]
        return [recommender_pb2.RecommendResponse(tier=recommender_pb2.TIER_EXACT) for _ in requests]

    def _bids(self, requests: Sequence[Any], calls: Sequence[Call]) -> list[Any]:
        self.callers += [call.caller for call in calls]
        return [bidder_pb2.BidResponse() for _ in requests]

    def client(self, certificate: Path | str = "", **connection: Any) -> Client:
        return Client(self.address, Connection(**{"ca": self.authority.file, "certificate": certificate, **connection}))

    def refuses_the_connection(self, certificate: Path | str = "") -> bool:
        """Whether TLS lets no call through at all."""
        with self.client(certificate) as client:
            try:
                # never tried again, and so told at once
                client.within(5).bid(BID)
            except errors.UnavailableError:
                return True
            except (errors.UnauthenticatedError, errors.PermissionDeniedError):
                return False
        return False


Make = Callable[..., Rig]


@pytest.fixture(params=["grpcio", "native"])
def make(request: pytest.FixtureRequest, tmp_path: Path, certificates: ModuleType) -> Iterator[Make]:
    try:
        check_door(request.param)
    except ConfigError:
        pytest.skip("this build has no native door")
    with contextlib.ExitStack() as stack:

        def make(required: bool = False) -> Rig:
            rig = Rig(request.param, tmp_path, certificates, required)
            stack.callback(rig.server.drain)
            return rig

        yield make


def test_a_name_of_the_certificate_is_a_role(make: Make) -> None:
    rig = make()
    spiffe = rig.authority.issue("pod 7", sans=[x509.UniformResourceIdentifier("spiffe://shop/storefront")])
    dns = rig.authority.issue("host 9", sans=[x509.DNSName("other.example"), x509.DNSName("ads.shop.example")])
    common = rig.authority.issue("old storefront")
    for certificate in (spiffe, common):
        with rig.client(certificate) as client:
            client.within(5).recommend("u1")
            with pytest.raises(errors.PermissionDeniedError, match="storefront"):
                client.within(5).bid(BID)
    with rig.client(dns) as client:
        client.within(5).bid(BID)
        with pytest.raises(errors.PermissionDeniedError, match="ad_platform"):
            client.within(5).recommend("u1")
    assert rig.callers == ["spiffe://shop/storefront", "old storefront", "ads.shop.example"]


def test_names_that_nobody_gave_a_role_are_unknown(make: Make) -> None:
    rig = make()
    near = rig.authority.issue("near", sans=[x509.UniformResourceIdentifier("spiffe://shop/storefront/2")])
    nobody = [""] if rig.optional else []
    for certificate in (near, rig.authority.issue("gone"), rig.authority.issue("else"), *nobody):
        with rig.client(certificate) as client, pytest.raises(errors.UnauthenticatedError):
            client.within(5).recommend("u1")
    assert not rig.callers


def test_what_another_authority_signed_or_has_expired_is_not_looked_at(make: Make) -> None:
    rig = make()
    forged = rig.stranger.issue("old storefront")
    assert rig.refuses_the_connection(forged)
    assert rig.refuses_the_connection(rig.authority.issue("old storefront", days=-1))
    assert not rig.callers


def test_grpcio_does_not_let_clients_choose(tmp_path: Path, certificates: ModuleType) -> None:
    authority = certificates.Authority(tmp_path)
    own = str(authority.issue("server", sans=[certificates.LOOPBACK]))
    tls = TlsConfig(certificate=own, key=own, client_ca=str(authority.file))
    door = make_door("grpcio", ["/a.B/C"], "127.0.0.1:0", DoorConfig(), tls=tls)
    with pytest.raises(ConfigError, match="require_client_certificate"):
        door.start()


def test_where_certificates_are_required_none_is_no_connection(make: Make) -> None:
    rig = make(required=True)
    assert rig.refuses_the_connection()
    with rig.client(rig.authority.issue("old storefront")) as client:
        client.within(5).recommend("u1")


def test_a_client_trusts_no_other_server_and_no_plain_one_is_there(make: Make) -> None:
    rig = make()
    certificate = rig.authority.issue("old storefront")
    for connection in ({"ca": rig.stranger.file}, {"ca": ""}):
        with Client(rig.address, Connection(**connection)) as client, pytest.raises(errors.UnavailableError):
            client.within(5).bid(BID)
    own = Connection(ca=rig.authority.file, certificate=certificate)
    assert health.check(rig.address, connection=own) == "SERVING"
    with rig.client(certificate, api_key="hr_wrong_key") as client, pytest.raises(errors.UnauthenticatedError):
        client.within(5).recommend("u1")
