"""The authority: one transactional account tree from which several processes are allotted what they may spend."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from headrace.authority.database import Database, open_database
from headrace.authority.grants import Asked, Change, Grants, Moment, Need, Slices, ask_needs
from headrace.authority.history import Stamp, mark_settings
from headrace.authority.registration import AWAITED, LIVE_MS, Committed, Memory, bring_in, enter, make_key
from headrace.authority.schema import LIFE, SCHEMA_VERSION, HolderState
from headrace.authority.settings import AuthorityConfig
from headrace.authority.tree import Tree
from headrace.errors import ConfigError, HolderRefusedError, LostRenewalError
from headrace.ledger.journal import get_meta, query_of, set_meta
from headrace.ledger.sql import Sql

T = TypeVar("T")


class Claim(NamedTuple):
    """Who renews: the holder, its epoch, and the renewal's number, one more than that of the last one."""

    holder: str
    epoch: int
    number: int


class Amounts(NamedTuple):
    """One line item's amounts of one holder in all, micros; see `headrace.ledger.ledger.AccountState`."""

    account: int
    billed: int
    won: int
    reserved: int
    unused: int
    late: int
    disputed: int
    stranded: int


class Report(NamedTuple):
    """What a renewal tells beside its changes: the last sequence of the holder's journal, reservations asked for a
    minute, and amounts of line items that changed."""

    sequence: int
    rate: int
    amounts: Sequence[Amounts] = ()


class Registration(NamedTuple):
    """The new epoch, the authority's own number, and all allotments: account, day, micros.

    brought_in_micros : by how much the holder's books were above what was allotted to it; that much is allotted now.
    """

    epoch: int
    authority_id: str
    allotments: list[tuple[int, int, int]]
    brought_in_micros: int


class View(NamedTuple):
    """How things stand.

    epoch, state : the holder's own.   settings : the state of what operators set.
    totals_version : grows with every change of a sum.   live : holders that count.   rates : of all of them.
    needs, wants : nodes below which others wait for money, and below which a line item of its own does.
    notices, actions : whether some wait for the holder.
    """

    epoch: int
    state: HolderState
    settings: Stamp
    totals_version: int
    live: int
    rates: int
    needs: list[int]
    wants: list[int]
    notices: bool
    actions: bool


class Renewal(NamedTuple):
    """What is allotted now for each change's account and day, in their order; and how things stand."""

    allotted: list[int]
    view: View


class Authority:
    """Allots money to holders; any number of processes may have one open on the same database.

    At every moment, for each node: the sum of what is allotted below it <= its limits and its balance, where none was
    cut below what was allotted already. What a holder has spent stays in its allotment.

    clock_ms : ms since 1970 UTC; used for who is live, how long one waits for others, and when a lost holder has
        stopped. Left out: the database's own where it has one, since hosts' clocks differ; else this host's.

    Every method raises AuthorityUnreachableError; what was done then is not known, and every method may be called again
    with the same arguments.
    """

    def __init__(
        self, config: AuthorityConfig, database: Database | None = None, clock_ms: Callable[[], int] | None = None
    ) -> None:
        self.config = config
        self.database = open_database(config) if database is None else database
        self._clock_ms = clock_ms
        self._tree = Tree()

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def present(self) -> Moment:
        """The authority's present moment, for its SQL."""
        if self._clock_ms is None and self.database.clock:
            return self.database.clock, ()
        now_ms = time.time_ns() // 1_000_000 if self._clock_ms is None else self._clock_ms()
        return "CAST(? AS BIGINT)", (now_ms,)

    def now_ms(self, sql: Sql) -> int:
        """The authority's present moment, ms since 1970 UTC."""
        text, values = self.present()
        return int(sql.execute(f"SELECT {text}", values).fetchone()[0])

    # -- holders

    def register(
        self,
        holder: str,
        known_authority: str,
        sequence: int,
        committed: Sequence[Committed],
        memory: Memory | None = None,
    ) -> Registration:
        """Begin the holder's next epoch; calls of the last one are refused from now on. What was allotted stays so,
        unless commits were lost (see `headrace.authority.registration`): then what was not committed goes back.

        known_authority : the number of the authority that its folder belongs to; empty: to none yet.
        sequence : the last sequence of its journal.   committed : account id, day and micros, all there are.
        memory : what else it knows.

        Raises HolderRefusedError when it is fenced, belongs to another authority, or its journal is older than one
        that was told of before, or has money in another currency than the authority.
        """

        def job(sql: Sql) -> Registration:
            query, now_ms = query_of(sql), self.now_ms(sql)
            authority = authority_id(sql)
            if known_authority not in ("", authority):
                raise HolderRefusedError(
                    "this data folder", known_authority, f"one of the authority {authority}", "check authority.url"
                )
            known = memory or Memory()
            isolation_ms = self.config.isolation_s * 1000
            last, anew = enter(sql, holder, sequence, known, now_ms, isolation_ms)
            make_key(sql, holder, now_ms)
            mark_settings(sql)
            self._tree.refresh(query)
            epoch = last + 1
            sql.execute(
                "INSERT INTO authority_holders VALUES (?, ?, ?, 0, ?, ?, ?, 0, ?) ON CONFLICT(holder) DO UPDATE SET "
                "name = excluded.name, epoch = excluded.epoch, number = 0, state = excluded.state, "
                "seen_ms = excluded.seen_ms, sequence = excluded.sequence, isolation_ms = excluded.isolation_ms",
                (holder, self.config.name, epoch, HolderState.LIVE, now_ms, sequence, isolation_ms),
            )
            brought_in = bring_in(sql, self._tree, holder, committed, now_ms, only=anew and not known.fenced)
            rows = sql.execute(
                "SELECT account, day, allotted FROM authority_allotments WHERE holder = ? AND allotted > 0 AND day > ?",
                (holder, LIFE),
            ).fetchall()
            return Registration(epoch, authority, [(row[0], row[1], row[2]) for row in rows], brought_in)

        return self.database.write(job)

    def renew(self, claim: Claim, changes: Sequence[Change], report: Report) -> Renewal:
        """Give back, report and ask, all at once; the same claim again changes nothing and answers the same.

        Raises HolderRefusedError: of another epoch, fenced, or with numbers that do not follow (then register again).
        """
        keys = [(change.account, change.day) for change in changes]

        def job(sql: Sql) -> Renewal:
            standing = _Standing(sql, claim.holder, self.present())
            known = self._tree.stamp
            asked = Asked(sql, self._tree, claim.holder, keys)  # along with the first question, for the tree we know
            stand = standing.read()
            self._check_claim(stand, claim)
            self._tree.refresh(query_of(sql), stand.settings)
            grants = Grants(sql, self._tree, claim.holder, keys, stand.now_ms, stand.needs)
            grants.load(asked if known == self._tree.stamp else None)
            if claim.number != stand.number:
                stand = self._renew(sql, claim, changes, report, (grants, stand))
            return Renewal([grants.allotted.get(key, 0) for key in keys], stand.view(claim.holder))

        return self.database.write(job)

    def look(self, holder: str) -> View:
        """How things stand; changes nothing."""
        return self.database.read(lambda sql: _Standing(sql, holder, self.present()).read().view(holder))

    def leave(self, claim: Claim, changes: Sequence[Change], report: Report) -> None:
        """A last renewal, after which the holder does not count as live until it registers again."""
        self.renew(claim, changes, report)

        def job(sql: Sql) -> None:
            sql.execute(
                "UPDATE authority_holders SET state = ?, rate = 0 WHERE holder = ? AND epoch = ? AND state = ?",
                (HolderState.GONE, claim.holder, claim.epoch, HolderState.LIVE),
            )
            sql.execute("DELETE FROM authority_needs WHERE holder = ?", (claim.holder,))

        self.database.write(job)

    def rotate_key(self, holder: str) -> None:
        """Make another signing key for a holder; it signs with it once it has read the settings anew."""

        def job(sql: Sql) -> None:
            make_key(sql, holder, self.now_ms(sql), another=True)

        self.database.write(job)

    # -- parts of the jobs

    def _check_claim(self, stand: _Stand, claim: Claim) -> None:
        if stand.epoch > claim.epoch or stand.state == HolderState.FENCED:
            raise HolderRefusedError(
                "epoch", claim.epoch, f"{stand.epoch}: the holder was fenced or registered again", "it bids no more"
            )
        if stand.state == HolderState.UNHEARD:
            raise LostRenewalError("the authority has lost commits", hint="it waits until all have registered again")
        if stand.epoch < claim.epoch or not stand.number <= claim.number <= stand.number + 1:
            expected = f"{stand.number + 1} of epoch {stand.epoch}"
            raise LostRenewalError("renewal", claim.number, expected, "register again")

    def _renew(
        self, sql: Sql, claim: Claim, changes: Sequence[Change], report: Report, loaded: tuple[Grants, _Stand]
    ) -> _Stand:
        grants, stand = loaded
        for change in changes:
            if change.day > stand.folded_day or (change.account, change.day) in grants.allotted:
                grants.apply(change)
        if not (stand.fenced or stand.awaited):
            slices = Slices(self.config.slice_share, max(stand.live, 1), self.config.slice_max_micros)
            for change in changes:
                if change.least > 0 and change.day > stand.folded_day:  # how much of it is spent is not known
                    grants.grant(change, slices)
        version = stand.totals_version
        if changes or report.amounts:
            version += 1
            set_meta(sql, "totals_version", str(version))
        grants.save(version)
        columns = Amounts._fields[1:]
        sql.executemany(
            f"INSERT INTO authority_books VALUES ({', '.join('?' * (len(columns) + 3))}) ON CONFLICT(holder, account) "
            f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in (*columns, 'version'))}",
            [(claim.holder, *row, version) for row in report.amounts],
        )
        sql.execute(
            "UPDATE authority_holders SET number = ?, seen_ms = ?, sequence = ?, rate = ?, state = ? WHERE holder = ?",
            (claim.number, stand.now_ms, report.sequence, report.rate, HolderState.LIVE, claim.holder),
        )
        return stand._replace(totals_version=version, state=HolderState.LIVE)


class _Stand(NamedTuple):
    """What one transaction reads of how things stand; see `View`."""

    now_ms: int
    epoch: int
    number: int
    state: HolderState
    notices: bool
    actions: bool
    live: int
    rates: int
    settings: Stamp
    totals_version: int
    fenced: bool
    awaited: bool
    folded_day: int
    needs: list[Need]

    def view(self, holder: str) -> View:
        """What the holder is told of it."""
        return View(
            epoch=self.epoch,
            state=self.state,
            settings=self.settings,
            totals_version=self.totals_version,
            live=self.live,
            rates=self.rates,
            needs=sorted({need.node for need in self.needs if need.holder != holder}),
            wants=sorted({need.node for need in self.needs if need.holder == holder}),
            notices=self.notices,
            actions=self.actions,
        )


class _Standing:
    """How things stand, on its way from the database; `read` waits for it."""

    def __init__(self, sql: Sql, holder: str, now: Moment) -> None:
        text, values = now
        live = f"FROM authority_holders WHERE state = ? AND seen_ms > {text} - ?"
        recent = (HolderState.LIVE, *values, LIVE_MS)
        own = "(SELECT {} FROM authority_holders WHERE holder = ?)"
        meta = "(SELECT value FROM ledger_meta WHERE key = '{}')"
        self._rows = sql.execute(
            f"SELECT {text}, {own.format('epoch')}, {own.format('number')}, {own.format('state')}, "
            "(SELECT min(notice_id) FROM authority_notices WHERE holder = ?), "
            "(SELECT min(number) FROM authority_actions WHERE holder = ?), "
            f"(SELECT count(*) {live}), (SELECT coalesce(sum(rate), 0) {live}), {AWAITED.format(text)}, "
            f"{meta.format('settings_version')}, {meta.format('settings_mark')}, {meta.format('totals_version')}, "
            f"{meta.format('fenced')}, {meta.format('folded_day')}",
            (*values, *[holder] * 5, *recent, *recent, HolderState.UNHEARD, *values),
        )
        self._needs = ask_needs(sql, now)

    def read(self) -> _Stand:
        row = self._rows.fetchone()
        now_ms, epoch, number, state, notice, action, *counts, version, mark, totals, fenced, folded = row
        live, rates, awaited = (int(count) for count in counts)
        return _Stand(
            now_ms=int(now_ms),
            epoch=epoch or 0,
            number=number or 0,
            state=HolderState(HolderState.GONE if state is None else state),
            notices=notice is not None,
            actions=action is not None,
            live=live,
            rates=rates,
            settings=Stamp(int(version or 0), mark or ""),
            totals_version=int(totals or 0),
            fenced=bool(fenced),
            awaited=awaited > 0,
            folded_day=int(folded or LIFE),
            needs=[Need(row[0], row[1], bool(row[2])) for row in self._needs.fetchall()],
        )


def authority_id(sql: Sql) -> str:
    """The authority's own random number; made at the first call. Raises ConfigError for a later version's tables."""
    query = query_of(sql)
    found = get_meta(query, "authority_id")
    if not found:
        found = secrets.token_hex(8)
        set_meta(sql, "authority_id", found)
        set_meta(sql, "schema", str(SCHEMA_VERSION))
    if int(get_meta(query, "schema", "1")) > SCHEMA_VERSION:
        raise ConfigError("the authority's tables are of a later version", hint="install that version here")
    return found
