"""The table of the paper, worked out by hand on four rows; and the page a person opens."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from proxy.routing.evaluation import arms, errors, interval, reliability, risk_coverage
from proxy.routing.report import table_rows, write_report
from proxy.routing.rows import Table
from tests.harness import ringfence
from tests.proxy.routing.tables import a_table, write_rows

#: sure and right; sure and wrong (the cloud knows); unsure, sent, still wrong; unknown and right.
ROWS = Table(
    score=np.array([-0.1, -0.2, -3.0, np.nan]),
    doubts=np.zeros(4, dtype=bool),
    local=np.array([True, False, False, True]),
    cloud=np.array([True, True, False, True]),
    local_ms=np.array([100.0, 100.0, 200.0, 100.0]),
    cloud_ms=np.full(4, 2000.0),
    cost_usd=np.full(4, 0.01),
)


def test_the_table_is_right() -> None:
    cloud, local, hybrid = arms(ROWS, -1.0)
    assert (cloud.accuracy, local.accuracy, hybrid.accuracy) == (0.75, 0.5, 0.5)
    assert (cloud.sent, local.sent, hybrid.sent) == (1.0, 0.0, 0.25)
    assert [arm.cost_usd for arm in (cloud, local, hybrid)] == pytest.approx([0.04, 0.0, 0.01])
    assert [arm.mean_ms for arm in (cloud, local, hybrid)] == [2000.0, 125.0, 625.0]
    assert hybrid.median_ms == 100.0
    assert hybrid.low < hybrid.accuracy < hybrid.high


def test_a_cost_that_nobody_knows_is_unknown_and_not_zero() -> None:
    rows = replace(ROWS, cost_usd=np.array([np.nan, 0.01, 0.01, 0.01]))
    told = arms(rows, -1.0)
    assert [arm.cost_usd for arm in told] == [None, 0.0, 0.01]
    assert [row[4] for row in table_rows(told)] == ["cloud cost", "unknown", "$0.0000", "$0.0100"]


def test_the_errors_are_told_apart() -> None:
    found = errors(ROWS, -1.0)
    assert (found.sure_and_wrong, found.sure_and_wrong_cloud_right) == (0.25, 0.25)
    assert (found.sent_and_wrong, found.sent_in_vain, found.unknown) == (0.25, 0.0, 0.25)


def test_the_interval_is_that_of_clopper_and_pearson() -> None:
    # 1 - 0.025^(1/10): the rule for all of ten right, in closed form
    low, high = interval(10, 10)
    assert low == pytest.approx(0.025**0.1)
    assert high == 1.0


def test_a_sound_score_is_more_often_right_the_surer_it_is() -> None:
    rows = a_table(4000)
    told = reliability(rows)
    assert list(told.score) == sorted(told.score)
    assert told.accuracy[-1] > told.accuracy[0] + 0.4
    coverage, risk = risk_coverage(rows)
    assert coverage[-1] == 1.0
    assert risk[-1] == pytest.approx(1 - rows.local.mean())
    assert risk[len(rows) // 5] < risk[-1] / 2


class Page(HTMLParser):
    """Collects what the page would fetch, and its images."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_report_is_one_page_that_fetches_nothing(tmp_path: Path) -> None:
    files = write_report(tmp_path / "r", ROWS, (arms(ROWS, -1.0), errors(ROWS, -1.0)), "<b>&")
    page = Page()
    page.feed(files[0].read_text())
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "&lt;b&gt;&amp;" in files[0].read_text()
    assert [file.read_bytes()[:4] for file in files[1:]] == [b"\x89PNG"] * 3


def test_the_command_prints_the_table_and_no_question(tmp_path: Path) -> None:
    rows = a_table(200)
    write_rows(tmp_path / "qa.jsonl", rows)
    done = ringfence(
        *("evaluate", "--data", str(tmp_path / "qa.jsonl"), "--recorded"),
        *("--out", str(tmp_path / "report")),
        RINGFENCE_CONFIDENCE_THRESHOLD="-0.5",
    )
    assert done.returncode == 0, done.stderr
    assert f"{rows.local.mean():.1%}" in done.stdout
    assert f"{rows.escalates(-0.5).mean():.1%}" in done.stdout
    assert (tmp_path / "report" / "index.html").exists()
    assert "canary" not in done.stdout + done.stderr
