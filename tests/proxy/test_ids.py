"""Ids: sortable by time, and no two alike."""

from __future__ import annotations

import re
import time

from proxy.ids import new_id


def test_holds_prefix_time_and_random_digits() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id("dec")
    after = time.time_ns() // 1_000_000
    assert re.fullmatch(r"dec_[0-9a-f]{28}", made)
    assert before <= int(made[4:16], 16) <= after


def test_no_two_are_alike() -> None:
    assert len({new_id("rec") for _ in range(10_000)}) == 10_000
