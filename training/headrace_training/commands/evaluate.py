"""`headrace-train evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.errors import ConfigError
from headrace_training.commands.output import put
from headrace_training.evaluate import evaluate_artifact, evaluate_files
from headrace_training.evaluate_baskets import evaluate_baskets
from headrace_training.evaluate_log import evaluate_log_metrics
from headrace_training.evaluate_sequences import evaluate_sequences
from headrace_training.evaluate_sessions import evaluate_sessions
from headrace_training.values import parse_moment

FORMATS = ("interactions", "sessions", "sequences", "baskets")


def evaluate(
    train: Annotated[Path | None, typer.Option(help="Training interactions.")] = None,
    test: Annotated[Path | None, typer.Option(help="Test interactions.")] = None,
    artifact: Annotated[Path | None, typer.Option(help="Measure this version or store instead of fitting.")] = None,
    log: Annotated[Path | None, typer.Option(help="Folder of an event log, instead of files.")] = None,
    split_time: Annotated[str, typer.Option(help="With --log: train is before, test from here on (UTC).")] = "",
    format: Annotated[str, typer.Option(help="interactions, sessions, sequences or baskets.")] = "interactions",
    model: Annotated[str, typer.Option(help="auto, or one of those that the format has.")] = "auto",
    k: Annotated[int, typer.Option(help="Length of the ranking.")] = 20,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    parameters: Annotated[Path | None, typer.Option(help="Model and parameters that `search` wrote.")] = None,
    items: Annotated[Path | None, typer.Option(help="Attributes of items: item_id and any other columns.")] = None,
    save: Annotated[Path | None, typer.Option(help="Folder for every line's result, which `compare` reads.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Rank all items for each test user and measure recall and ndcg."""
    if format not in FORMATS:
        raise ConfigError("--format", got=format, expected=", ".join(FORMATS))
    if format != "interactions":
        _refuse(f"--format {format}", log=log, artifact=artifact, items=items, split_time=split_time or None)
        options: dict[str, Any] = {"model": model, "k": k, "seed": seed, "save": save}
        put(_next_report(format, train, test, parameters, **options), json)
        return
    if log is not None:
        _refuse("--log", train=train, test=test, artifact=artifact, items=items)
        if not split_time:
            raise ConfigError("--split-time", got="", expected="a time", hint="say where train ends, e.g. 2017-10-01")
        split_ms = parse_moment(split_time, "--split-time")
        put(evaluate_log_metrics(log, split_ms, model=model, k=k, seed=seed, save=save, parameters=parameters), json)
        return
    if split_time:
        raise ConfigError(
            "--split-time", got=split_time, expected="nothing without --log", hint="files are split already"
        )
    if test is None:
        raise ConfigError(
            "--test", got=None, expected="a file", hint="give --train and --test, or --log and --split-time"
        )
    if artifact is not None:
        _refuse("--artifact", train=train, parameters=parameters, items=items)
        put(evaluate_artifact(artifact, test, k=k, seed=seed, save=save), json)
        return
    if train is None:
        raise ConfigError(
            "--train", got=None, expected="a file", hint="give --train, or --artifact to measure a trained one"
        )
    given = {"parameters": parameters, "items": items}
    put(evaluate_files(train, test, model=model, k=k, seed=seed, save=save, **given), json)


def _next_report(
    format: str, train: Path | None, test: Path | None, parameters: Path | None, **options: Any
) -> dict[str, Any]:
    if train is None:
        raise ConfigError("--train", got=None, expected="a file", hint=f"give the {format} with --train")
    if format == "sequences":
        _refuse("--format sequences, whose last items are the test", test=test)
        return evaluate_sequences(train, parameters=parameters, **options)
    if format == "baskets":
        _refuse("--format baskets", parameters=parameters)
        if test is None:
            raise ConfigError("--test", got=None, expected="a file", hint="give the baskets that follow with --test")
        return evaluate_baskets(train, test, **options)
    if test is None:
        raise ConfigError("--test", got=None, expected="a file", hint="give lines of 'item item … | item' with --test")
    return evaluate_sessions(train, test, parameters=parameters, **options)


def _refuse(with_option: str, **others: Path | str | None) -> None:
    for name, value in others.items():
        if value is not None:
            raise ConfigError(f"--{name.replace('_', '-')}", got=str(value), expected=f"nothing beside {with_option}")
