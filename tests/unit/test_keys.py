"""The keys file: what it takes, what it refuses, and that it keeps no secret."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headrace.errors import ConfigError, NotFoundError
from headrace.security.keys import Key, Keyring, create_key, digest_of, read_keyring, revoke
from headrace.security.roles import Role

NOW = datetime(2024, 6, 1, 12, 30, 15, 999, tzinfo=UTC)
CERTIFICATE = '# of the ad platform\n[[certificates]]\nsubject = "spiffe://shop/ads"\nrole = "ad_platform"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


def test_a_new_key_is_printed_once_and_kept_as_its_hash(file: Path) -> None:
    key, whole = create_key(file, Role.STOREFRONT, tenant="tea", expires_days=1.5, note='the "shop"', now=NOW)
    assert re.fullmatch(rf"hr_{key.id}_[A-Za-z0-9]{{43}}", whole)
    assert read_keyring(file) == Keyring(keys=(key,))
    assert key == Key(
        id=key.id,
        hash=f"sha256:{digest_of(whole).hex()}",
        role=Role.STOREFRONT,
        tenant="tea",
        created=NOW.replace(microsecond=0),
        expires=NOW.replace(microsecond=0) + timedelta(hours=36),
        note='the "shop"',
    )
    text = file.read_text()
    assert whole not in text
    assert whole.rpartition("_")[2] not in text
    assert file.stat().st_mode & 0o777 == 0o600


def test_secrets_are_random(file: Path) -> None:
    wholes = [create_key(file, Role.ADMIN, now=NOW)[1] for _ in range(50)]
    assert len({whole.rpartition("_")[2] for whole in wholes}) == len({whole.split("_")[1] for whole in wholes}) == 50


def test_what_a_person_wrote_stays_when_keys_come_and_go(file: Path) -> None:
    write(file, CERTIFICATE)
    first, _ = create_key(file, Role.STOREFRONT, now=NOW)
    second, _ = create_key(file, Role.OPERATOR, now=NOW)
    revoke(file, first.id)
    revoke(file, first.id)
    revoke(file, "spiffe://shop/ads")
    assert "# of the ad platform\n" in file.read_text()
    keyring = read_keyring(file)
    assert [(key.id, key.disabled) for key in keyring.keys] == [(first.id, True), (second.id, False)]
    assert [(one.subject, one.role, one.disabled) for one in keyring.certificates] == [
        ("spiffe://shop/ads", Role.AD_PLATFORM, True)
    ]


def test_a_rate_of_its_own_is_kept(file: Path) -> None:
    write(file, CERTIFICATE + "rate_per_second = 7\n")
    for rate in ((500.0, 1000.0), (0.5, None), (0.0, None)):
        key, _ = create_key(file, Role.STOREFRONT, rate=rate, now=NOW)
        assert (key.rate_per_second, key.burst) == rate
        assert read_keyring(file).keys[-1] == key
    assert read_keyring(file).certificates[0].rate_per_second == 7


@pytest.mark.parametrize(
    "rate", [(-1.0, None), (2e9, None), (float("nan"), None), (1.0, -1.0), (None, 5.0), (0.0, 5.0)]
)
def test_a_rate_that_cannot_be_is_refused_and_nothing_is_written(
    file: Path, rate: tuple[float | None, float | None]
) -> None:
    with pytest.raises(ConfigError, match=r"rate_per_second|burst"):
        create_key(file, Role.STOREFRONT, rate=rate, now=NOW)
    assert not file.exists()
    rate_line = f"rate_per_second = {rate[0]}\n" if rate[0] is not None else ""
    burst_line = f"burst = {rate[1]}\n" if rate[1] is not None else ""
    with pytest.raises(ConfigError):
        read_keyring(write(file, CERTIFICATE + rate_line + burst_line))


def test_a_wider_mode_that_is_allowed_stays(file: Path) -> None:
    write(file, CERTIFICATE).chmod(0o640)
    create_key(file, Role.STOREFRONT, now=NOW)
    assert file.stat().st_mode & 0o777 == 0o640


def test_revoking_nobody_is_told(file: Path) -> None:
    with pytest.raises(NotFoundError, match="headrace keys list"):
        revoke(write(file, CERTIFICATE), "nobody")


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602, 0o604, 0o601])
def test_a_file_open_to_others_is_refused(file: Path, mode: int) -> None:
    write(file, CERTIFICATE).chmod(mode)
    with pytest.raises(ConfigError, match=rf"mode of .*got '0{mode:o}', expected 0600.*chmod 600"):
        read_keyring(file)


KEY = '[[keys]]\nid = "a1"\nhash = "sha256:{}"\nrole = "admin"\ncreated = 2024-01-01T00:00:00Z\n'.format("0" * 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[keys]\n", "malformed"),
        ("keys = 3\n", "malformed"),
        (KEY.replace("admin", "root"), "'root'"),
        (KEY.replace("a1", "A_1"), "id"),
        (KEY.replace("sha256:", "md5:"), "hash"),
        (KEY.replace("Z", ""), "created"),
        (KEY + 'secret = "x"\n', "unknown field `secret`"),
        (KEY + 'tenant = "Bad Name"\n', "tenant"),
        (KEY + f'note = "{"x" * 257}"\n', "note"),
        (KEY + KEY, "two entries"),
        (KEY + CERTIFICATE.replace("spiffe://shop/ads", "a1"), "two entries"),
        (CERTIFICATE + 'expires = "soon"\n', "expires"),
    ],
)
def test_a_malformed_file_is_refused(file: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_keyring(write(file, text))
    with pytest.raises(ConfigError):
        create_key(file, Role.ADMIN, now=NOW)
    assert file.read_text() == text


def test_a_secret_written_where_the_hash_belongs_is_not_repeated(file: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        read_keyring(write(file, KEY.replace("sha256:" + "0" * 64, "hr_a1_verysecret")))
    assert "verysecret" not in str(refusal.value)


def test_absent_files_and_bad_options_are_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keyring(file)
    for options in ({"tenant": "no/name"}, {"note": "a\nb"}, {"note": "x" * 257}, {"expires_days": 0.0}):
        with pytest.raises(ConfigError):
            create_key(file, Role.ADMIN, now=NOW, **options)  # type: ignore[arg-type]
    assert not file.exists()


def test_keys_made_at_one_moment_are_all_kept(file: Path) -> None:
    makers = [threading.Thread(target=create_key, args=(file, Role.ADMIN), kwargs={"now": NOW}) for _ in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(read_keyring(file).keys) == 8
    assert [path.name for path in file.parent.iterdir()] == ["keys.toml"]
