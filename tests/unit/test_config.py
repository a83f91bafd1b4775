"""Configuration: what wins, what is refused, and with which words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from headrace.config import Config, TenantConfig, each_tenant, known_keys, load_config, sections_of
from headrace.errors import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    return file


def test_nothing_said_is_the_defaults() -> None:
    assert load_config(environment={}) == Config()


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = write(tmp_path, '[server]\ndata = "file"\nworkers = 3\nlisten = "127.0.0.1:1"\nbatch_limit = 7\n')
    environment = {"HEADRACE_SERVER_WORKERS": "4", "HEADRACE_SERVER_LISTEN": "127.0.0.1:2", "HEADRACE_DATA": "not ours"}
    config = load_config(file, {"server": {"listen": "127.0.0.1:3"}}, environment)
    assert (config.server.data, config.server.workers, config.server.listen) == ("file", 4, "127.0.0.1:3")
    assert config.server.batch_limit == 7


def test_environment_texts_become_the_type_of_the_key() -> None:
    environment = {"HEADRACE_SERVER_INSECURE": "true", "HEADRACE_DOOR_KEEPALIVE_S": "2.5"}
    config = load_config(environment=environment)
    assert (config.server.insecure, config.door.keepalive_s) == (True, 2.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nworker = 3\n", r"unknown key server\.worker in .*did you mean server\.workers"),
        ("[sever]\nworkers = 3\n", r"unknown section sever in .*did you mean server\?"),
        ("[server]\nzzzzzz = 1\n", r"unknown key server\.zzzzzz .*known: server\.artifact"),
        ("workers = 3\n", r"unknown section workers"),
        ("server = 3\n", r"write \[server\] on a line"),
        ('[server]\nworkers = "3"\n', r"server\.workers in .*got '3', expected `int`"),
        ("[server]\nworkers = 2.5\n", r"server\.workers in .*expected `int`"),
        ("[server]\nworkers = -1\n", r"server\.workers in .*got -1, expected `int` >= 0"),
        ("[server]\ndrain_grace_s = nan\n", r"server\.drain_grace_s"),
        ('[server]\ndoor = "iron"\n', r"server\.door in .*'iron'.*native.*grpcio"),
        ("[server\n", r"cannot be read"),
    ],
)
def test_bad_file_is_a_config_error_that_helps(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text), environment={})


def test_bad_environment_and_missing_file_say_where() -> None:
    with pytest.raises(ConfigError, match=r"server\.workers in the environment: got 'many'"):
        load_config(environment={"HEADRACE_SERVER_WORKERS": "many"})
    with pytest.raises(ConfigError, match=r"unknown key server\.wrokers in the environment.*server\.workers"):
        load_config(environment={"HEADRACE_SERVER_WROKERS": "3"})
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read"):
        load_config(Path("nowhere.toml"), environment={})


def test_sections_are_frozen_slotted_and_keyword_only() -> None:
    for section in (Config(), Config().server, Config().door):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, dataclasses.fields(section)[0].name, None)
        assert not hasattr(section, "__dict__")
        with pytest.raises(TypeError):
            type(section)("positional")


def test_every_key_accepts_its_own_default() -> None:
    flags: dict[str, dict[str, object]] = {}
    for section, key, default in known_keys():
        flags.setdefault(section, {})[key] = default
    assert load_config(flags=flags, environment={}) == Config()


TWO_TENANTS = '[tenants.shoes]\nartifact = "s"\ndata = "sd"\n[tenants.tea]\nartifact = "t"\ndata = "td"\n'


def test_tenants_are_sections_that_the_environment_may_complete(tmp_path: Path) -> None:
    environment = {"HEADRACE_TENANTS_TEA_ARTIFACT": "other", "HEADRACE_TENANTS_OLD_BOOKS_DATA": "bd"}
    environment["HEADRACE_TENANTS_OLD_BOOKS_ARTIFACT"] = "b"
    config = load_config(write(tmp_path, TWO_TENANTS), environment=environment)
    assert config.tenants == {
        "shoes": TenantConfig(artifact="s", data="sd"),
        "tea": TenantConfig(artifact="other", data="td"),
        "old_books": TenantConfig(artifact="b", data="bd"),
    }
    tea = each_tenant(config)["tea"]
    assert (tea.server.artifact, tea.server.data, dict(tea.tenants)) == ("other", "td", {})
    assert dict(sections_of(config))["tenants.shoes"] == {"artifact": "s", "data": "sd", "authority": ""}


def test_each_tenant_has_an_authority_of_its_own(tmp_path: Path) -> None:
    environment = {"HEADRACE_TENANTS_TEA_AUTHORITY": "sqlite:///tea.db"}
    every = each_tenant(load_config(write(tmp_path, TWO_TENANTS), environment=environment))
    assert {name: its.authority.url for name, its in every.items()} == {"shoes": "", "tea": "sqlite:///tea.db"}
    shared = environment | {"HEADRACE_TENANTS_SHOES_AUTHORITY": "sqlite:///tea.db"}
    with pytest.raises(ConfigError, match="tenants share no money"):
        load_config(write(tmp_path, TWO_TENANTS), environment=shared)
    with pytest.raises(ConfigError, match=r"authority\.url"):
        load_config(write(tmp_path, TWO_TENANTS), environment={"HEADRACE_AUTHORITY_URL": "sqlite:///all.db"})


def test_without_tenants_there_is_one_of_no_name() -> None:
    config = load_config(flags={"server": {"artifact": "a"}}, environment={})
    assert each_tenant(config) == {"": config}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            TWO_TENANTS.replace("td", "sd"),
            r"tenants\.tea\.data: got 'sd', expected a folder apart from.*tenants\.shoes",
        ),
        (TWO_TENANTS.replace("td", "./x/../sd/"), r"tenants\.tea\.data"),
        (TWO_TENANTS.replace("td", "sd/inner"), r"tenants\.tea\.data"),
        (TWO_TENANTS + "date = 3\n", r"unknown key tenants\.tea\.date in .*did you mean tenants\.tea\.data"),
        (TWO_TENANTS + "[tenants.Bad-Name]\n", r"the name of a tenant in .*got 'Bad-Name'"),
        ("[tenants.tea]\ndata = 3\n", r"tenants\.tea\.data in .*got 3, expected `str`"),
        ("[tenants.tea]\ndata = 'td'\n", r"tenants\.tea\.artifact: got '', expected a folder"),
        ("[tenants]\ntea = 3\n", r"write \[tenants\.tea\] on a line"),
        ("tenants = 3\n", r"write \[tenants\.NAME\]"),
        (TWO_TENANTS + "[server]\ndata = 'd'\n", r"server\.data: got 'd', expected nothing where there are tenants"),
    ],
)
def test_bad_tenants_are_config_errors_that_help(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text), environment={})


def test_an_unknown_key_of_a_tenant_in_the_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown key tenants\.tea\.artefact in the environment"):
        load_config(environment={"HEADRACE_TENANTS_TEA_ARTEFACT": "t"})
