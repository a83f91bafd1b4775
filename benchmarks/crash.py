"""Money under fire: `python benchmarks/crash.py --operations 10000000 --kills 1000 [--folder DIR] [--minutes M]`.

Bidders reserve and settle without end while they are killed with SIGKILL: one on its own ledger, four over one
authority, and one that loses besides all writes that were not synced. The exchange says its notices twice, out of
order, late, forged, overpriced or never. At the end its bill is settled in full, and its books, which only the tokens
that left make, decide: what it charged above a budget in hold mode is 0, in expire mode within the certificate's bound;
what it charged is what the ledger billed, to the micro; and the auditor, who reads the journal alone, finds no
difference.

With --folder a run that was stopped goes on; --minutes ends it early and says how far it came. Exit 1 on any finding.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crash_market import Charges, read_bids
from crash_worker import BATCH, DAY_MS, DAYS, EDITED, EXPIRE, HOLD, PROGRESS

from headrace.audit.auditor import audit, balances, compare_stated
from headrace.audit.certificate import certify
from headrace.audit.stated import stated_by_engine
from headrace.audit.trail import open_store
from headrace.events.store import DATABASE
from headrace.ledger.tokens import TOKEN_LENGTH

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("crash_worker.py")
SHIM = ROOT / "native" / "tests" / "drop_unsynced.c"
FUNDS = (
    "SELECT account_id, sum(amount_micros) FROM ledger_funds JOIN ledger_accounts USING (account_number) "
    "GROUP BY account_id"
)
BIDS_AN_OPERATION = 0.42
MEAN_CHARGE = 0.45 * 25
"""Micros that the exchange charges for a bid, on average; half of the bids are those of HOLD, and three quarters
of that are a day's budget."""


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

    def funds(self) -> Path:
        """The database that knows of the deposits."""
        return self.live / DATABASE

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


class HeldChain:
    """Several processes that spend the same budgets, allotted by one authority; any of them is killed at any time."""

    def __init__(self, folder: Path, goal: int, n_kills: int, forks: Forks, seed: int, n: int = 4) -> None:
        self.folder, self.goal, self.n_kills = folder, goal, n_kills
        self.parts = [
            Chain(folder / str(at), goal // n, n_kills // n, forks, seed + at, folder / "beside" / str(at))
            for at in range(n)
        ]
        self.daily = max(int(goal * BIDS_AN_OPERATION / DAYS * MEAN_CHARGE / 2 * 0.75), 2_000)
        for part in self.parts:
            part.daily, part.authority = self.daily, f"sqlite:///{folder}/authority.db"
        self.dice = random.Random(seed)
        self.running: dict[int, int] = {}

    @property
    def kills(self) -> int:
        return sum(part.kills for part in self.parts)

    def operations(self) -> int:
        return sum(part.operations() for part in self.parts)

    def slots(self) -> list[tuple[Path, Path]]:
        return [slot for part in self.parts for slot in part.slots()]

    def funds(self) -> Path:
        return self.folder / "authority.db"

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


class Verdict:
    """What is wrong with a chain; empty when nothing is."""

    def __init__(self, chain: Chain | HeldChain) -> None:
        self.findings: list[str] = []
        self.charges = Charges({}, {})
        self.records, self.audit_seconds, self.bound = 0, 0.0, 0
        numbers: dict[str, int] = {}
        for live, beside in chain.slots():
            numbers = self.of_one(live, beside)
        books = sqlite3.connect(chain.funds())
        self.compare(numbers, chain.daily, dict(books.execute(FUNDS).fetchall()))
        books.close()

    def of_one(self, live: Path, beside: Path) -> dict[str, int]:
        """One process: its complaints, its auditor, and each bill that it got; account numbers by id."""
        problems = beside / "problems"
        if problems.exists():
            self.findings += problems.read_text().splitlines()
        own = Charges({}, {})
        with (beside / "bids").open("rb") as file:
            while block := file.read(200_000 * TOKEN_LENGTH):
                own.add(read_bids(block))
        with open_store(live / DATABASE) as trail:
            started = time.monotonic()
            found = audit(trail)
            self.audit_seconds += time.monotonic() - started
            compare_stated(found, stated_by_engine(trail, 0), balances(found, 0), "the engine")
            certificate = certify(found, trail.late_bills(), "", 0)
        self.records += found.recount.n_records
        self.findings += found.differences
        numbers = {account.account_id: account.number for account in found.accounts}
        table = balances(found, 0)
        for line in (*HOLD, *EDITED):
            billed, owed = table[numbers[line]].billed, own.billed(numbers[line])
            if billed != owed:
                self.findings.append(f"{line}: billed {billed} micros, charged {owed}")
        for entry in certificate.accounts:
            if entry.over_micros or not entry.bound.inside:
                self.findings.append(
                    f"{entry.account_id}: {entry.over_micros} above the budget in force, {entry.bound}"
                )
            self.bound += entry.bound.bound_micros * (entry.account_id == EXPIRE[0])
        self.charges.merge(own)
        return numbers

    def compare(self, numbers: dict[str, int], daily: int, funds: dict[str, int]) -> None:
        """Whether the exchange charged more than there was."""
        hold = [numbers[line] for line in (*HOLD, *EDITED)]
        steady = [numbers[line] for line in HOLD]
        spent = self.charges.of_days(steady)
        self.used = sum(spent.values()) / (daily * max(len(spent), 1))
        self.over = sum(max(micros - daily, 0) for micros in spent.values())
        self.over += sum(max(micros - daily * 2 // 3, 0) for micros in self.charges.of_days(steady[:1]).values())
        self.over += max(sum(self.charges.of_days(hold).values()) - funds["hold"], 0)
        if self.over:
            self.findings.append(f"charged {self.over} micros above budgets in hold mode")
        timed = self.charges.of_days([numbers[EXPIRE[0]]])
        self.expire_over = sum(max(micros - daily, 0) for micros in timed.values())
        if self.expire_over > self.bound:
            self.findings.append(f"expire mode: {self.expire_over} micros above its budgets, the bound is {self.bound}")


def compiled(folder: Path) -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        print("no C compiler: no power losses", file=sys.stderr)
        return None
    built = folder / "drop_unsynced.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, SHIM], check=True)
    return built


def run(folder: Path, asked: argparse.Namespace) -> int:
    """All chains to their ends or to the time's; how many findings there are."""
    operations, kills, seed = asked.operations, asked.kills, asked.seed
    shim = compiled(folder)
    losses = max(kills // 10, 1) if shim else 0
    lost, shared = min(operations // 10, losses * 2_000), operations * 3 // 10
    plain = Forks()
    chains: list[Chain | HeldChain] = [
        Chain(folder / "one", operations - lost - shared, kills - losses - kills * 3 // 10, plain, seed),
        HeldChain(folder / "four", shared, kills * 3 // 10, plain, seed),
    ]
    if shim:
        powerless = Forks({"LD_PRELOAD": str(shim)})
        chains.insert(0, PowerChain(folder / "power", lost, losses, powerless, seed))
    chains = [chain for chain in chains if asked.only in (None, chain.folder.name)]
    started = time.monotonic()
    for chain in chains:
        while not chain.done and time.monotonic() < started + asked.minutes * 60:
            chain.life()
    lived = time.monotonic() - started
    n_findings = sum(report(chain) for chain in chains)
    total, killed = sum(chain.operations() for chain in chains), sum(chain.kills for chain in chains)
    print(f"{total:,} operations, {killed} kills in {lived:.0f} s; {time.monotonic() - started:.0f} s with all checks")
    print("over: 0 micros" if not n_findings else f"{n_findings} findings")
    return n_findings


def report(chain: Chain | HeldChain) -> int:
    started = time.monotonic()
    chain.finish()
    verdict = Verdict(chain)
    print(
        f"{chain.folder.name}: {chain.operations():,} operations in {chain.kills} lives, "
        f"{verdict.charges.n_bids:,} bids, {verdict.used:.1%} of daily budgets; "
        f"hold over: {verdict.over} micros; expire over: {verdict.expire_over} of at most {verdict.bound} micros; "
        f"audit of {verdict.records:,} records {verdict.audit_seconds:.1f} s; "
        f"settled and checked in {time.monotonic() - started:.0f} s"
    )
    for text in verdict.findings[:20]:
        print(f"  FINDING {text}")
    return len(verdict.findings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--operations", type=int, default=10_000_000)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("one", "four", "power"), help="one chain, with its part of the whole")
    asked = parser.parse_args()
    if asked.folder is not None:
        asked.folder.mkdir(parents=True, exist_ok=True)
        sys.exit(1 if run(asked.folder, asked) else 0)
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(1 if run(Path(scratch), asked) else 0)


if __name__ == "__main__":
    main()
