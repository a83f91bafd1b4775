"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_DATA = Path("headrace-data")

At = Annotated[str, typer.Option("--at", metavar="HOST:PORT", help="The server to ask.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="TOML file of settings.")]
Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the database and the ledger.")]
