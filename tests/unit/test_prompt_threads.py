"""What a serving process asks of the interpreter."""

from __future__ import annotations

import gc
import sys

import pytest

from headrace.service.process import SWITCH_S, prompt_threads


def test_threads_take_turns_soon_and_garbage_is_not_sought_in_what_stays() -> None:
    before = sys.getswitchinterval()
    with prompt_threads():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
        assert gc.get_freeze_count() > 1000
    assert sys.getswitchinterval() == before
    assert gc.get_freeze_count() == 0
