"""One suite over both authorities: what is allotted is never more than there is."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.authority.grants import KEEP_ALL, NEED_MS, Change

TODAY = 20_833


def test_a_grant_is_a_slice_and_counts_on_every_level(rig: Any) -> None:
    authority = rig.funded(1_000_000)
    one = rig.holder(authority, "one")
    x = rig.number("a/c/x")
    assert one.ask(x) == 125_000  # an eighth of what is left for the only live holder
    two = rig.holder(authority, "two")
    assert two.ask(x) == 875_000 // 16  # of two, half of that
    granted = 125_000 + 875_000 // 16
    assert [rig.total(name) for name in ("a", "a/c", "a/c/x", "a/c/y")] == [granted, granted, granted, 0]
    assert rig.total("a/c/x", TODAY) == granted


def test_all_limits_of_the_path_hold(rig: Any) -> None:
    authority = rig.funded(1_000_000)
    rig.limit(authority, "a/c", lifetime_micros=900)
    rig.limit(authority, "a/c/x", daily_micros=500)
    x, y = rig.number("a/c/x"), rig.number("a/c/y")
    one = rig.holder(authority, "one")
    assert one.ask(x, 500, 10_000) == 500
    assert one.ask(x, 1) == 0
    assert one.ask(x, 300, day=TODAY + 1) == 300  # another day's limit, the same campaign's
    assert one.ask(y, 101) == 0
    assert one.ask(y, 100) == 100


def test_slices_have_a_most(rig: Any) -> None:
    rig.funded(1_000_000)
    authority = rig.open(slice_max_micros=1000)
    one = rig.holder(authority, "one")
    x = rig.number("a/c/x")
    assert one.ask(x) == 1000
    assert one.ask(x, 5000, 9000) == 5000


def test_what_is_given_back_is_allotted_to_others(rig: Any) -> None:
    authority = rig.funded(1000)
    one, two = rig.holder(authority, "one"), rig.holder(authority, "two")
    x, z = rig.number("a/c/x"), rig.number("a/d/z")
    assert one.ask(x, 1000) == 1000
    assert two.ask(z, 10) == 0
    assert authority.look("one").needs == [rig.number("a")]
    assert authority.look("two").needs == []
    assert one.renew(Change(x, TODAY, 300, 300)) == [300]
    assert two.ask(z, 700) == 700
    assert authority.look("one").needs == []


def test_what_is_asked_for_ahead_is_little_and_nobody_gives_back_for_it(rig: Any) -> None:
    authority = rig.funded(1000)
    one, two, three = (rig.holder(authority, name) for name in ("one", "two", "three"))
    x, z = rig.number("a/c/x"), rig.number("a/d/z")
    ahead = Change(z, TODAY, KEEP_ALL, 0, 1, 0, 30)
    assert three.renew(ahead) == [30]
    assert one.ask(x, 970) == 970
    assert two.renew(ahead) == [0]
    assert authority.look("one").needs == []
    assert two.ask(x, 500) == 0  # a bid was refused: that is another matter
    assert authority.look("one").needs != []
    one.renew(Change(x, TODAY, 870, 870))
    assert three.renew(Change(z, TODAY, KEEP_ALL, 30, 1, 0, 30)) == [30]  # what came back is for who waits


def test_the_last_micro_can_be_allotted(rig: Any) -> None:
    authority = rig.funded(12_345)
    one = rig.holder(authority, "one")
    x = rig.number("a/c/x")
    while one.ask(x):
        pass
    assert one.has[x, TODAY] == 12_345


def test_a_need_ends_by_time_and_does_not_outlive_a_clock_that_was_ahead(rig: Any) -> None:
    authority = rig.funded(100)
    one, two = rig.holder(authority, "one"), rig.holder(authority, "two")
    x = rig.number("a/c/x")
    one.ask(x, 100)
    rig.now_ms += 365 * 86_400_000
    two.ask(x, 1)
    assert authority.look("one").needs
    rig.now_ms -= 365 * 86_400_000
    assert authority.look("one").needs == []
    two.ask(x, 1)
    rig.now_ms += NEED_MS
    assert authority.look("one").needs == []


@pytest.mark.parametrize("jump_ms", [-(10**10), 10**10])
def test_a_jumping_clock_moves_no_money(rig: Any, jump_ms: int) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), rig.number("a/c/x")
    assert one.ask(x, 600) == 600
    rig.now_ms += jump_ms
    assert one.ask(x, 600) == 0
    assert one.ask(x, 400) == 400
    two = rig.holder(authority, "two")
    assert two.ask(x) == 0
