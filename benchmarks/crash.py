"""Money under fire: `python benchmarks/crash.py --operations 10000000 --kills 1000 [--folder DIR] [--minutes M]`.

Bidders reserve and settle without end while they are killed with SIGKILL; one chain of them besides loses all writes
that were not synced. The exchange says its notices twice, out of order, late, forged, overpriced or never. At the end
its bill is settled in full, and its books, which only the tokens that left make, decide: what it charged above a budget
in hold mode is 0, in expire mode within the certificate's bound; what it charged is what the ledger billed, to the
micro; and the auditor, who reads the journal alone, finds no difference.

With --folder a run that was stopped goes on; --minutes ends it early and says how far it came. Exit 1 on any finding.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crash_market import Charges, read_bids
from crash_worker import BATCH, DAY_MS, DAYS, EDITED, EXPIRE, HOLD, PROGRESS

from headrace.audit.auditor import Audit, audit, balances, compare_stated
from headrace.audit.certificate import certify
from headrace.audit.stated import stated_by_engine
from headrace.audit.trail import open_store
from headrace.bidding.tokens import TOKEN_LENGTH
from headrace.events.store import DATABASE

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

    def __init__(self, folder: Path, goal: int, n_kills: int, forks: Forks, seed: int) -> None:
        self.folder, self.goal, self.n_kills, self.forks = folder, goal, n_kills, forks
        self.live, self.beside = folder / "live", folder / "beside"
        self.beside.mkdir(parents=True, exist_ok=True)
        self.live.mkdir(exist_ok=True)
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

    @property
    def done(self) -> bool:
        return self.operations() >= self.goal and self.kills >= self.n_kills

    def asked(self) -> dict[str, Any]:
        step_ms = DAYS * DAY_MS / self.goal
        seed = self.dice.randrange(2**31)
        return {
            "folder": str(self.live),
            "beside": str(self.beside),
            "seed": seed,
            "step_ms": step_ms,
            "daily": self.daily,
        }

    def life(self) -> None:
        """One life: ended in its first moments, while it recovers, or after its share of the operations."""
        before, left = self.operations(), max(self.n_kills - self.kills, 1)
        child = self.forks.start(**self.asked())
        if self.dice.random() < 0.15:
            time.sleep(self.dice.random() * 0.1)
        else:
            share = before + max((self.goal - before) / left, BATCH) * self.dice.uniform(0.5, 1.7)
            wait_until(lambda: self.operations() >= share or gone(child))
            time.sleep(self.dice.random() * 0.01)
        if gone(child):
            raise SystemExit(f"a worker of {self.folder} ended by itself")
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: gone(child))
        (self.beside / "kills").write_text(str(self.kills + 1))

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


class Verdict:
    """What is wrong with a chain; empty when nothing is."""

    def __init__(self, chain: Chain) -> None:
        self.findings: list[str] = []
        self.charges = Charges({}, {})
        problems = chain.beside / "problems"
        if problems.exists():
            self.findings += problems.read_text().splitlines()
        self.read_books(chain.beside / "bids")
        with open_store(chain.live / DATABASE) as trail:
            started = time.monotonic()
            found = audit(trail)
            self.audit_seconds = time.monotonic() - started
            compare_stated(found, stated_by_engine(trail, 0), balances(found, 0), "the engine")
            funds = dict(trail.query(FUNDS))
            self.certificate = certify(found, trail.late_bills(), "", 0)
        self.records = found.recount.n_records
        self.findings += found.differences
        self.compare(found, chain.daily, funds)

    def read_books(self, path: Path) -> None:
        with path.open("rb") as file:
            while block := file.read(200_000 * TOKEN_LENGTH):
                self.charges.add(read_bids(block))

    def compare(self, found: Audit, daily: int, funds: dict[str, int]) -> None:
        numbers = {account.account_id: account.number for account in found.accounts}
        table = balances(found, 0)
        hold = [numbers[line] for line in (*HOLD, *EDITED)]
        steady = [numbers[line] for line in HOLD]
        spent = self.charges.of_days(steady)
        self.used = sum(spent.values()) / (daily * max(len(spent), 1))
        self.over = sum(max(micros - daily, 0) for micros in spent.values())
        self.over += sum(max(micros - daily * 2 // 3, 0) for micros in self.charges.of_days(steady[:1]).values())
        self.over += max(sum(self.charges.of_days(hold).values()) - funds["hold"], 0)
        if self.over:
            self.findings.append(f"charged {self.over} micros above budgets in hold mode")
        for entry in self.certificate.accounts:
            if entry.over_micros:
                self.findings.append(
                    f"{entry.account_id}: {entry.over_micros} micros committed above the budget in force"
                )
        for number in hold:
            if table[number].billed != self.charges.billed(number):
                self.findings.append(
                    f"account {number}: billed {table[number].billed}, charged {self.charges.billed(number)}"
                )
        self.compare_expire(numbers[EXPIRE[0]], daily)

    def compare_expire(self, number: int, daily: int) -> None:
        entry = next(entry for entry in self.certificate.accounts if entry.account_id == EXPIRE[0])
        self.expire_over = sum(max(micros - daily, 0) for micros in self.charges.of_days([number]).values())
        self.bound = entry.bound.bound_micros
        if self.expire_over > self.bound or not entry.bound.inside:
            self.findings.append(f"expire mode: {self.expire_over} micros above its budgets, the bound is {self.bound}")


def compiled(folder: Path) -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        print("no C compiler: no power losses", file=sys.stderr)
        return None
    built = folder / "drop_unsynced.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, SHIM], check=True)
    return built


def run(folder: Path, operations: int, kills: int, minutes: float, seed: int) -> int:
    """All chains to their ends or to the time's; how many findings there are."""
    shim = compiled(folder)
    losses = max(kills // 10, 1) if shim else 0
    share = min(operations // 10, losses * 5_000)
    plain = Forks()
    chains = [Chain(folder / "kills", operations - share, kills - losses, plain, seed)]
    if shim:
        powerless = Forks({"LD_PRELOAD": str(shim)})
        chains.append(PowerChain(folder / "power", share, losses, powerless, seed))
    started = time.monotonic()
    for chain in chains:
        while not chain.done and time.monotonic() < started + minutes * 60:
            chain.life()
    lived = time.monotonic() - started
    n_findings = sum(report(chain) for chain in chains)
    total, killed = sum(chain.operations() for chain in chains), sum(chain.kills for chain in chains)
    print(f"{total:,} operations, {killed} kills in {lived:.0f} s; {time.monotonic() - started:.0f} s with all checks")
    print("over: 0 micros" if not n_findings else f"{n_findings} findings")
    return n_findings


def report(chain: Chain) -> int:
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
    asked = parser.parse_args()
    if asked.folder is not None:
        asked.folder.mkdir(parents=True, exist_ok=True)
        sys.exit(1 if run(asked.folder, asked.operations, asked.kills, asked.minutes, asked.seed) else 0)
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(1 if run(Path(scratch), asked.operations, asked.kills, asked.minutes, asked.seed) else 0)


if __name__ == "__main__":
    main()
