"""What operators see of an authority: commands, doctor's finding, and what a wrong configuration says."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.authority import operators
from headrace.authority.authority import Authority, Claim, Report
from headrace.authority.grants import KEEP_ALL, Change
from headrace.authority.settings import AuthorityConfig
from headrace.cli import app
from headrace.errors import ConfigError, NotFoundError, PreconditionError
from headrace.ledger.budgets import put_account
from headrace.operations.authority import authority as examine
from headrace.operations.finding import Level

HOLDER = "00000000000000aa"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose authority has one holder that was allotted 125,000 micros and uses 100."""
    url = f"sqlite:///{tmp_path}/authority.db"
    authority = Authority(AuthorityConfig(url=url, name="shop-1", isolation_s=1000))
    operators.fund(authority, "deposit", "a", 1_000_000, "USD", "ann")
    line = authority.database.write(lambda sql: put_account(sql, "a/c/l", {}, 1, "ann", "").number)
    epoch = authority.register(HOLDER, "", 1, []).epoch
    authority.renew(Claim(HOLDER, epoch, 1), [Change(line, 20_000, KEEP_ALL, 0, 1)], Report(1, 0))
    authority.renew(Claim(HOLDER, epoch, 2), [Change(line, 20_000, KEEP_ALL, 100)], Report(2, 0))
    authority.close()
    file = tmp_path / "headrace.toml"
    file.write_text(f'[authority]\nurl = "{url}"\n')
    return file


def run(*words: str) -> str:
    return CliRunner().invoke(app, ["authority", *words], catch_exceptions=False).stdout


def test_a_lost_holder_is_fenced_written_off_and_lifted(config: Path) -> None:
    header, listed = (line.split("\t") for line in run("holders", "--config", str(config)).splitlines())
    assert [*listed[:2], *listed[3:]] == [HOLDER, "live", "125000", "100", "0", "shop-1"]
    (told,) = json.loads(run("holders", "--json", "--config", str(config)))["holders"]
    assert [str(told[column]) for column in header] == listed
    said = ["--reason", "burnt", "--config", str(config)]
    with pytest.raises(PreconditionError, match="a fenced one"):
        run("write-off", HOLDER, *said)
    assert run("fence", HOLDER, *said) == f"{HOLDER} is fenced\n"
    assert examine(AuthorityConfig(url=url_of(config))).level == Level.WARN
    with pytest.raises(PreconditionError, match="--force"):
        run("write-off", HOLDER, *said)
    assert run("write-off", HOLDER, "--force", *said) == "124900 micros may be spent by others\n"
    assert run("lift", HOLDER, *said) == f"{HOLDER} may register again\n"
    assert run("check", "--config", str(config)) == "the books balance\n"
    with pytest.raises(NotFoundError):
        run("fence", "nobody", *said)


def test_check_says_what_is_above_a_limit_and_what_does_not_balance(config: Path) -> None:
    said = ["check", "--config", str(config)]
    assert json.loads(run(*said, "--json")) == {"balance": True, "wrong": "", "over_limits": []}
    with closing(Authority(AuthorityConfig(url=url_of(config)))) as authority:
        authority.database.write(lambda sql: put_account(sql, "a/c", {"daily_micros": 1000}, 1, "ann", ""))
        assert run(*said).splitlines()[1:] == ["a/c: 124000 micros are allotted above its limit on 2024-10-04"]
        (over,) = json.loads(run(*said, "--json"))["over_limits"]
        assert over == {"account_id": "a/c", "day": "2024-10-04", "micros": 124_000}
        authority.database.write(lambda sql: sql.execute("UPDATE authority_totals SET allotted = allotted + 1"))
    result = CliRunner().invoke(app, ["authority", *said, "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["balance"] is False


def test_a_configuration_without_an_authority_says_so(tmp_path: Path) -> None:
    (tmp_path / "none.toml").write_text("")
    with pytest.raises(ConfigError, match=r"authority\.url"):
        run("holders", "--config", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="--tenant"):
        run("holders", "--config", str(tmp_path / "none.toml"), "--tenant", "tea")


def test_doctor_says_whether_it_answers_and_balances(config: Path, tmp_path: Path) -> None:
    found = examine(AuthorityConfig(url=url_of(config)))
    assert (found.level, found.found) == (Level.OK, "answers, its books balance, 1 of 1 holders registered")
    authority = Authority(AuthorityConfig(url=url_of(config)))
    authority.database.write(lambda sql: sql.execute("UPDATE authority_totals SET allotted = allotted + 1"))
    authority.close()
    assert "do not balance" in examine(AuthorityConfig(url=url_of(config))).found
    (tmp_path / "junk.db").write_bytes(b"junk" * 1000)
    assert examine(AuthorityConfig(url=f"sqlite:///{tmp_path}/junk.db")).level == Level.FAIL
    assert examine(AuthorityConfig(url="redis://x")).level == Level.FAIL


def url_of(config: Path) -> str:
    return config.read_text().split('"')[1]
