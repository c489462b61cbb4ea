"""The written forms of a date, and what only looks like one."""

from __future__ import annotations

import pytest
import re2

from proxy.inspection.dates import DATE

PATTERN = re2.compile(f"(?i){DATE}")


@pytest.mark.parametrize(
    "text",
    [
        "1984-03-09",
        "9/3/1984",
        "09.03.84",
        "9 March 1984",
        "9th of March 1984",
        "March 9, 1984",
        "9-Mar-84",
        "9. März 1984",
        "9 de marzo de 1984",
        "9 września 1984",
        "19840309",
        "1984年3月9日",
        "O9/O3/1984",
    ],
)
def test_takes_a_date_whole(text: str) -> None:
    assert PATTERN.fullmatch(text)


@pytest.mark.parametrize("text", ["1984", "9 March", "3.14", "12:30", "March of 9 men", "1.2.3"])
def test_leaves_what_is_no_date(text: str) -> None:
    assert PATTERN.fullmatch(text) is None
