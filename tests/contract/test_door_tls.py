"""TLS and mutual TLS: what every door promises."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headrace.config import DoorConfig
from headrace.errors import ConfigError
from headrace.front import TlsConfig, make_door

from .conftest import ECHO, DoorRig, wait_until

OpenDoor = Callable[..., DoorRig]
DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates, and keeps them as files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(self.name, self.key, DAY).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.pem = certificate.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.pem)

    def _builder(self, subject: x509.Name, key: Any, life: datetime.timedelta) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + life)
        )

    def issue(self, name: str, *alternatives: str, life: datetime.timedelta = DAY) -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(each) for each in (*alternatives, "localhost")]
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, life).add_extension(x509.SubjectAlternativeName(names), critical=False)
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        files[0].write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def config_of(authority: Authority, **more: Any) -> TlsConfig:
    certificate, key = authority.issue("server")
    return TlsConfig(certificate=str(certificate), key=str(key), **more)


def ask(rig: DoorRig, authority: Authority, client: tuple[Path, Path] | None = None, timeout: float = 5) -> bytes:
    pair = (None, None) if client is None else (client[1].read_bytes(), client[0].read_bytes())
    credentials = grpc.ssl_channel_credentials(authority.pem, *pair)
    # channels of one process share connections otherwise, and with them handshakes
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"localhost:{rig.port}", credentials, options) as channel:
        answer: bytes = channel.unary_unary(ECHO)(b"x", timeout=timeout)
        return answer


def refused(rig: DoorRig, *arguments: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as failure:
        ask(rig, *arguments)
    code: grpc.StatusCode = failure.value.code()
    return code


def test_calls_are_encrypted_and_plain_ones_refused(open_door: OpenDoor, authority: Authority) -> None:
    rig = open_door(config_of(authority))
    assert ask(rig, authority) == b"x"
    with pytest.raises(grpc.RpcError) as failure:
        rig.call(timeout=2).result()
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
    assert rig.batches[0][0].identities == ()


def test_a_server_that_another_authority_signed_is_not_trusted(
    open_door: OpenDoor, authority: Authority, tmp_path: Path
) -> None:
    rig = open_door(config_of(authority))
    assert refused(rig, Authority(tmp_path, "stranger")) == grpc.StatusCode.UNAVAILABLE


def test_identities_are_the_names_in_the_verified_certificate(open_door: OpenDoor, authority: Authority) -> None:
    rig = open_door(config_of(authority, client_ca=str(authority.file), require_client_certificate=True))
    assert ask(rig, authority, authority.issue("shop", "shop.example")) == b"x"
    (call,) = rig.batches[0]
    assert call.identities == ("shop.example", "localhost", "127.0.0.1", "shop")


def test_without_a_valid_client_certificate_the_connection_is_refused(
    open_door: OpenDoor, authority: Authority, tmp_path: Path
) -> None:
    rig = open_door(config_of(authority, client_ca=str(authority.file), require_client_certificate=True))
    good = authority.issue("shop")
    stranger = Authority(tmp_path, "stranger")
    for client in (None, stranger.issue("thief"), authority.issue("late", life=-DAY)):
        assert refused(rig, authority, client) == grpc.StatusCode.UNAVAILABLE
    # a certificate with another's key is refused by the client's own library already
    with pytest.raises(grpc.RpcError):
        ask(rig, authority, (good[0], authority.issue("other")[1]), 1)
    assert ask(rig, authority, good) == b"x"
    assert rig.seen() == [b"x"]


def test_a_certificate_that_is_not_required_is_still_verified(
    open_door: OpenDoor, door_name: str, authority: Authority, tmp_path: Path
) -> None:
    tls = config_of(authority, client_ca=str(authority.file))
    if door_name == "grpcio":
        with pytest.raises(ConfigError, match="the native door lets clients choose"):
            open_door(tls)
        return
    rig = open_door(tls)
    assert ask(rig, authority) == b"x"
    assert rig.batches[-1][0].identities == ()
    assert ask(rig, authority, authority.issue("shop")) == b"x"
    assert rig.batches[-1][0].identities[-1] == "shop"
    stranger = Authority(tmp_path, "stranger").issue("thief")
    assert refused(rig, authority, stranger) == grpc.StatusCode.UNAVAILABLE


def test_renewed_certificates_are_used_without_a_restart(
    open_door: OpenDoor, authority: Authority, tmp_path: Path
) -> None:
    tls = config_of(authority)
    rig = open_door(tls)
    assert ask(rig, authority) == b"x"
    (tmp_path / "next").mkdir()
    renewed = Authority(tmp_path / "next", "authority")
    certificate, key = renewed.issue("server")
    # between the two renames the pair does not fit, and the old one stays
    os.replace(certificate, tls.certificate)
    assert ask(rig, authority) == b"x"
    os.replace(key, tls.key)
    assert ask(rig, renewed) == b"x"
    assert refused(rig, authority) == grpc.StatusCode.UNAVAILABLE
    Path(tls.certificate).write_text("garbage")
    assert ask(rig, renewed) == b"x"


@pytest.mark.parametrize(
    ("change", "at_fault"),
    [
        ({"certificate": ""}, "tls.certificate"),
        ({"certificate": "", "key": "", "require_client_certificate": True}, "tls.certificate"),
        ({"key": ""}, "tls.key"),
        ({"require_client_certificate": True}, "tls.client_ca"),
        ({"certificate": "nowhere.pem"}, "tls.certificate"),
        ({"key": "nowhere.pem"}, "tls.key"),
        ({"client_ca": "nowhere.pem"}, "tls.client_ca"),
        ({"certificate": "GARBAGE"}, "tls.certificate"),
        ({"key": "GARBAGE"}, "tls.key"),
        ({"key": "OTHER"}, "tls.key"),
        ({"client_ca": "GARBAGE"}, "tls.client_ca"),
    ],
)
def test_bad_settings_are_told_before_the_door_opens(
    door_name: str, authority: Authority, tmp_path: Path, change: dict[str, Any], at_fault: str
) -> None:
    certificate, key = authority.issue("server")
    (tmp_path / "GARBAGE").write_text("-----BEGIN NOTHING-----")
    files = {"GARBAGE": str(tmp_path / "GARBAGE"), "OTHER": str(authority.issue("other")[1])}
    named = {name: files.get(value, value) if isinstance(value, str) else value for name, value in change.items()}
    tls = TlsConfig(**{"certificate": str(certificate), "key": str(key), **named})
    with pytest.raises(ConfigError) as failure:
        make_door(door_name, [ECHO], "127.0.0.1:0", DoorConfig(), tls=tls)
    assert str(failure.value).startswith(at_fault)


def test_drain_ends_encrypted_connections_too(open_door: OpenDoor, authority: Authority) -> None:
    rig = open_door(config_of(authority))
    assert ask(rig, authority) == b"x"
    rig.door.drain(1)
    assert refused(rig, authority) == grpc.StatusCode.UNAVAILABLE
    wait_until(lambda: not rig.worker.is_alive())
