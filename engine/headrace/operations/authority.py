"""What ``headrace doctor`` says of an authority."""

from __future__ import annotations

from headrace.authority.authority import Authority
from headrace.authority.operators import check_books, holders, over_limits
from headrace.authority.schema import HolderState
from headrace.authority.settings import AuthorityConfig
from headrace.errors import ConfigError, HeadraceError, LedgerError
from headrace.operations.finding import Finding, fail, ok, warn

SUBJECT = "authority"


def authority(config: AuthorityConfig) -> Finding:
    """Whether it is reached, its books balance, and none of its holders needs somebody."""
    try:
        opened = Authority(config)
    except ConfigError as error:
        return fail(SUBJECT, str(error), "mend the section [authority]")
    try:
        return _examine(opened)
    except LedgerError as error:
        return fail(SUBJECT, str(error), "stop bidding and restore the authority's database")
    except HeadraceError as error:
        return fail(
            SUBJECT, str(error), "start it, or mend authority.url; holders bid on from what is allotted to them"
        )
    finally:
        opened.close()


def _examine(opened: Authority) -> Finding:
    check_books(opened)
    found = holders(opened)
    fenced = [row.name or row.holder for row in found if row.state == HolderState.FENCED]
    if fenced:
        return warn(SUBJECT, f"fenced: {', '.join(fenced)}", "headrace authority lift, or write-off")
    unheard = [row.name or row.holder for row in found if row.state == HolderState.UNHEARD]
    if unheard:
        hint = "nothing is allotted until they are back, or their isolation time is over: headrace authority fence"
        return warn(SUBJECT, f"not heard of since commits were lost: {', '.join(unheard)}", hint)
    over = over_limits(opened)
    if over:
        account, _, micros = over[0]
        return warn(
            SUBJECT,
            f"{account} has {micros} micros allotted above its limit",
            "it was cut: that falls as holders spend",
        )
    n_live = sum(row.state == HolderState.LIVE for row in found)
    return ok(SUBJECT, f"answers, its books balance, {n_live} of {len(found)} holders registered")
