"""The ledgers of the crash stress through their many lives: alone, several over one authority, with power losses."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from crash_worker import BATCH, DAY_MS, DAYS, PROGRESS

from headrace.events.store import DATABASE

WORKER = Path(__file__).with_name("crash_worker.py")
FUNDS = (
    "SELECT account_id, sum(amount_micros) FROM ledger_funds JOIN ledger_accounts USING (account_number) "
    "GROUP BY account_id"
)
BIDS_AN_OPERATION = 0.42
MEAN_CHARGE = 0.45 * 25
"""Micros that the exchange charges for a bid, on average; half of the bids are those of HOLD, and three quarters
of that are a day's budget."""


SCARCITY = 6
"""Its budgets are so much smaller: a simulated day is too short for more money to come from a server."""

SERVER_SHARE = 0.2
"""Of PostgreSQL's kills among those of its chain."""


class Forks:
    """Starts workers in milliseconds, and kills them."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self.server = subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **(environment or {})},
        )

    def start(self, **asked: Any) -> int:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def close(self) -> None:
        self.server.communicate()


def wait_until(done: Callable[[], bool], seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit("a worker did not get there")
        time.sleep(0.002)


def gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


class Chain:
    """One ledger through many lives.

    goal : operations of the whole chain.   n_kills : lives of it.   forks : where its workers come from.
    """

    def __init__(
        self, folder: Path, goal: int, n_kills: int, forks: Forks, seed: int, beside: Path | None = None
    ) -> None:
        self.folder, self.goal, self.n_kills, self.forks = folder, goal, n_kills, forks
        self.live, self.beside, self.authority = folder / "live", beside or folder / "beside", ""
        self.beside.mkdir(parents=True, exist_ok=True)
        self.live.mkdir(parents=True, exist_ok=True)
        self.dice = random.Random(f"{seed} {self.kills}")
        self.daily = max(int(goal * BIDS_AN_OPERATION / DAYS * MEAN_CHARGE / 2 * 0.75), 2_000)

    @property
    def kills(self) -> int:
        path = self.beside / "kills"
        return int(path.read_text()) if path.exists() else 0

    def operations(self) -> int:
        path = self.beside / "progress"
        content = path.read_bytes() if path.exists() else b""
        return int(PROGRESS.unpack(content)[0]) if len(content) == PROGRESS.size else 0

    def slots(self) -> list[tuple[Path, Path]]:
        """Each process's ledger, and what lies beside it."""
        return [(self.live, self.beside)]

    def funds(self) -> dict[str, int]:
        """Deposits less refunds by advertiser, micros."""
        return _funds_in(self.live / DATABASE)

    @property
    def done(self) -> bool:
        return self.operations() >= self.goal and self.kills >= self.n_kills

    def asked(self) -> dict[str, Any]:
        return {
            "folder": str(self.live),
            "beside": str(self.beside),
            "seed": self.dice.randrange(2**31),
            "step_ms": DAYS * DAY_MS / self.goal,
            "daily": self.daily,
            "authority": self.authority,
        }

    def start(self) -> int:
        return self.forks.start(**self.asked())

    def kill(self, child: int) -> None:
        if gone(child):
            raise SystemExit(f"a worker of {self.folder} ended by itself")
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: gone(child))
        (self.beside / "kills").write_text(str(self.kills + 1))

    def life(self) -> None:
        """One life: ended in its first moments, while it recovers, or after its share of the operations."""
        before, left = self.operations(), max(self.n_kills - self.kills, 1)
        child = self.start()
        if self.dice.random() < 0.15:
            time.sleep(self.dice.random() * 0.1)
        else:
            share = before + max((self.goal - before) / left, BATCH) * self.dice.uniform(0.5, 1.7)
            wait_until(lambda: self.operations() >= share or gone(child))
            time.sleep(self.dice.random() * 0.01)
        self.kill(child)

    def finish(self) -> None:
        """The last life: everything is told, the ledger is drained."""
        child = self.forks.start(**self.asked(), last=True)
        wait_until(lambda: gone(child), 3600.0)


class PowerChain(Chain):
    """The same with power losses: of the ledger's files only what was synced is there in the next life."""

    def life(self) -> None:
        self.shadow = self.folder / "shadow"
        shutil.rmtree(self.shadow, ignore_errors=True)
        self.shadow.mkdir()
        for file in self.live.iterdir():
            shutil.copyfile(file, self.shadow / str(file.stat().st_ino))
            (self.shadow / f"={file.name}").symlink_to(str(file.stat().st_ino))
        super().life()
        left = self.folder / "left"
        left.mkdir()
        for name in self.shadow.glob("=*"):
            shutil.copyfile(name, left / name.name[1:])
            os.chmod(left / name.name[1:], 0o600)
        (left / "ledger.reservations").unlink(missing_ok=True)  # memory-mapped, never synced
        shutil.rmtree(self.live)
        left.rename(self.live)

    def asked(self) -> dict[str, Any]:
        environment = {"SHADOW_ROOT": str(self.live), "SHADOW_DIR": str(self.folder / "shadow")}
        return super().asked() | {"environment": environment}


def _funds_in(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as books:
        return dict(books.execute(FUNDS).fetchall())


class HeldChain:
    """Several processes that spend the same budgets, allotted by one authority; any of them is killed at any time."""

    def __init__(
        self,
        folder: Path,
        goal: int,
        n_kills: int,
        forks: Forks,
        seed: int,
        authority: str = "",
        scarcity: int = 1,
        n: int = 4,
    ) -> None:
        self.folder, self.goal, self.n_kills = folder, goal, n_kills
        self.parts = [
            Chain(folder / str(at), goal // n, n_kills // n, forks, seed + at, folder / "beside" / str(at))
            for at in range(n)
        ]
        self.daily = max(int(goal * BIDS_AN_OPERATION / DAYS * MEAN_CHARGE / 2 * 0.75) // scarcity, 2_000)
        for part in self.parts:
            part.daily, part.authority = self.daily, authority or f"sqlite:///{folder}/authority.db"
        self.dice = random.Random(seed)
        self.running: dict[int, int] = {}

    @property
    def kills(self) -> int:
        return sum(part.kills for part in self.parts)

    def operations(self) -> int:
        return sum(part.operations() for part in self.parts)

    def slots(self) -> list[tuple[Path, Path]]:
        return [slot for part in self.parts for slot in part.slots()]

    def funds(self) -> dict[str, int]:
        return _funds_in(self.folder / "authority.db")

    @property
    def done(self) -> bool:
        return self.operations() >= self.goal and self.kills >= self.n_kills

    def life(self) -> None:
        """Until one of them is killed."""
        for at, part in enumerate(self.parts):
            if at not in self.running:
                self.running[at] = part.start()
        before, left = self.operations(), max(self.n_kills - self.kills, 1)
        share = before + max((self.goal - before) / left, BATCH) * self.dice.uniform(0.3, 1.9)
        wait_until(lambda: self.operations() >= share or any(map(gone, self.running.values())))
        at = self.dice.choice(sorted(self.running))
        self.parts[at].kill(self.running.pop(at))

    def finish(self) -> None:
        for at, child in self.running.items():
            self.parts[at].kill(child)
        self.running.clear()
        for part in self.parts:
            part.finish()


class PostgresChain(HeldChain):
    """The same over a real PostgreSQL, which is killed, too, with all its processes; it begins anew each time.

    server : as in tests/postgres.py.
    """

    def __init__(self, folder: Path, goal: int, n_kills: int, forks: Forks, seed: int, server: Any) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.server, self.url, self.server_kills = server, server.new_database(), 0
        super().__init__(folder, goal, n_kills, forks, seed, self.url, SCARCITY)

    @property
    def kills(self) -> int:
        return super().kills + self.server_kills

    def funds(self) -> dict[str, int]:
        import psycopg

        with psycopg.connect(self.url) as connection:
            return {name: int(micros) for name, micros in connection.execute(FUNDS).fetchall()}

    def life(self) -> None:
        """Until one of them is killed, or the server: they go on bidding while it is away."""
        if self.running and self.dice.random() < SERVER_SHARE:
            self.server.kill()
            self.server_kills += 1
            time.sleep(self.dice.random() * 0.2)
            self.server.start()
        super().life()
