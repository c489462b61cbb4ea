"""The month's report counts what the ledger holds, loads nothing, and shows no value as markup."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.charts import columns, lines, nice_top, to_svg
from audit.cli import app
from audit.month import Month, NoReport, Reader, month_of, read_month
from audit.month_html import month_html
from audit.month_pdf import month_pdf
from audit.record import CallerRecord, CoverageRecord, ReplayRecord, TransferRecord
from audit.replay import stored_heads
from audit.sealer import Sealer
from audit.stores.files import FileStore
from audit.verify import verify
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome, open_ledger
from tests.audit.test_statement import SICK, decided
from tests.harness import records_in

MONTH = f"{datetime.now(UTC):%Y-%m}"
US = TransferRecord("Example <b>Inc</b>", "US", "scc", "30 days", training=False)


async def _fill(folder: Path) -> None:
    """4 requests stay, 1 is refused, 3 leave: two to the EU (one masked), one to the US."""
    ledger = open_ledger(folder)
    await ledger.event("policy.loaded", {"digest": "sha256:" + "0" * 64, "revision": 3})
    for number, decision in enumerate([SICK, SICK, decided(), decided(), decided()]):
        route = "refuse" if number == 4 else "local"
        routing = replace(decision.routing, route=route)
        await ledger.decision(replace(decision, decision_id=f"dec_{number:028x}", routing=routing))
    intents = [
        an_intent(),
        replace(an_intent(), masked=(("PERSON", 2),)),
        replace(an_intent(), destination="us", region="us", transfer=US),
        an_intent(),
    ]
    for number, intent in enumerate(intents, start=16):
        id_ = f"dec_{number:028x}"
        decision = decided(("PERSON", "identity"))
        await ledger.decision(replace(decision, decision_id=id_))
        permit = await ledger.intent(replace(intent, decision_id=id_), b"12345", ORIGIN)
        outcome = replace(an_outcome(permit), sent="no" if number == 19 else "yes")
        await ledger.outcome(replace(outcome, cost_usd=None if number == 17 else 1.25))
    caller = CallerRecord("billing", "finance", "prod", "key-1")
    await ledger.replay(ReplayRecord(f"dec_{16:028x}", "req_2", "responses", caller, 200))
    await ledger.close()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("month")
    asyncio.run(_fill(folder))
    return folder / "ledger"


@pytest.fixture(scope="module")
def month(ledger: Path) -> Month:
    return read_month(ledger, MONTH)


def test_counts_what_stayed_left_and_was_refused(month: Month) -> None:
    assert month.decisions == 9
    assert dict(month.ways) == {"stayed": 5, "refused": 1, "left": 3}
    assert (month.uninspected, month.not_sent, month.lowest_coverage) == (0, 1, 1.0)
    assert dict(month.stayed) == {"health": 2, "identity": 3}
    (eu, us) = sorted(month.transfers)
    assert (eu.recipient, eu.country, us.recipient) == ("Example Ltd", "IE", US.recipient)
    assert (month.transfers[eu].requests, month.transfers[eu].bytes) == (2, 10)
    assert (month.transfers[eu].cost_usd, month.transfers[eu].unpriced) == (1.25, 1)
    assert dict(month.transfers[eu].found) == {"identity": 2}
    assert dict(month.transfers[eu].masked) == {"identity": 1}
    assert month.given_again == 1
    assert "1 answers were given again" in month_html(month, {})
    assert month.categories == ["identity", "health"]
    assert [event["kind"] for event in month.events] == ["policy.loaded"]


def test_a_request_that_was_sent_to_one_model_after_another_is_one_request(tmp_path: Path) -> None:
    async def climb() -> None:
        ledger = open_ledger(tmp_path)
        for number, masks in enumerate([((), ()), ((("PERSON", 2),), (("PERSON", 2),))]):
            id_ = f"dec_{number:028x}"
            await ledger.decision(replace(decided(("PERSON", "identity")), decision_id=id_))
            steps = [(1, {}), (2, {}), (3, {"destination": "us", "region": "us", "transfer": US})]
            for (attempt, change), masked in zip(steps, (*masks, masks[0]), strict=True):
                step: Any = {"attempt": attempt, "masked": masked, **change}
                permit = await ledger.intent(replace(an_intent(id_), **step), b"12345", ORIGIN)
                await ledger.outcome(replace(an_outcome(permit), cost_usd=1.0))
        await ledger.close()

    asyncio.run(climb())
    assert verify(tmp_path / "ledger").is_sound
    month = read_month(tmp_path / "ledger", MONTH)
    assert dict(month.ways) == {"left": 2}
    eu, us = (month.transfers[who] for who in sorted(month.transfers))
    assert (eu.requests, eu.attempts, eu.bytes, eu.cost_usd) == (2, 4, 20, 4.0)
    assert (us.requests, us.attempts, us.bytes, us.cost_usd) == (2, 2, 10, 2.0)
    assert (dict(eu.found), dict(eu.masked)) == ({"identity": 2}, {"identity": 1})
    assert "in 4 attempts" in month_html(month, {})
    assert month_pdf(month, {}).startswith(b"%PDF")


def test_values_that_were_masked_for_one_model_only_are_not_masked(tmp_path: Path) -> None:
    async def climb() -> None:
        ledger = open_ledger(tmp_path)
        await ledger.decision(replace(decided(("PERSON", "identity")), decision_id="dec_1"))
        for attempt, masked in ((1, (("PERSON", 2),)), (2, ())):
            step = replace(an_intent("dec_1"), attempt=attempt, masked=masked)
            await ledger.intent(step, b"12345", ORIGIN)
        await ledger.close()

    asyncio.run(climb())
    (row,) = read_month(tmp_path / "ledger", MONTH).transfers.values()
    assert (dict(row.found), dict(row.masked)) == ({"identity": 1}, {})


def test_another_month_is_empty_and_says_that_it_cannot_speak(ledger: Path) -> None:
    empty = read_month(ledger, "2020-02")
    assert (empty.decisions, empty.transfers, empty.events) == (0, {}, [])
    assert [gap["why"] for gap in empty.gaps] == ["the ledger begins later"]
    assert "Nothing left in this month." in month_html(empty, {})
    assert month_pdf(empty, {}).startswith(b"%PDF")


def test_an_egress_that_was_not_read_to_its_end_is_counted_in_red(tmp_path: Path) -> None:
    async def leave_one() -> None:
        ledger = open_ledger(tmp_path)
        decision = decided(coverage=CoverageRecord(4, 3, 0, (("image", 1),)))
        await ledger.decision(decision)
        await ledger.intent(an_intent(), b"body", ORIGIN)
        await ledger.close()

    asyncio.run(leave_one())
    month = read_month(tmp_path / "ledger", MONTH)
    assert (month.uninspected, month.lowest_coverage) == (1, 0.75)
    assert '<div class="bad"><b>1</b>' in month_html(month, {})


def test_the_page_loads_nothing_runs_nothing_and_escapes_all(month: Month) -> None:
    page = month_html(month, {"controller": "<script>alert(1)</script>", "purpose": "a & b"})
    assert "<script" not in page
    assert "Example &lt;b&gt;Inc&lt;/b&gt;" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a &amp; b" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert not re.search(r"(?:src|href|url)\s*[=(]|@import|javascript:", page)
    for svg in re.findall(r"<svg.*?</svg>", page):
        ET.fromstring(svg)  # noqa: S314  # our own, just made
    for words in (
        "Integrity, not correctness",
        "Art. 30(1)(d)",
        "Example Ltd",
        "1 masked",
        "$1.2500 + 1 unknown",
    ):
        assert words in page


def test_the_pdf_says_the_same_and_is_the_same_each_time(month: Month, tmp_path: Path) -> None:
    pdf = month_pdf(month, {"controller": "<b>Muster & Söhne"})
    assert pdf == month_pdf(month, {"controller": "<b>Muster & Söhne"})
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    (tmp_path / "a.pdf").write_bytes(pdf)
    text = subprocess.run(
        ["pdftotext", "-layout", str(tmp_path / "a.pdf"), "-"], capture_output=True, text=True
    ).stdout
    for words in ("<b>Muster & Söhne", "Example Ltd", "1 masked", "Integrity, not correctness"):
        assert words in text


def test_a_changed_ledger_gives_no_report(ledger: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(ledger, tmp_path / "copy"))
    segment = next((copy / "wal").rglob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b'"health"', b'"wealth"'))
    with pytest.raises(NoReport, match="changed"):
        read_month(copy, MONTH)
    done = CliRunner().invoke(app, ["report", str(copy), "--month", MONTH])
    assert (done.exit_code, done.stdout) == (1, "")


def test_the_command_writes_page_and_pdf(ledger: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    for name, start in (("r.html", b"<!doctype html>"), ("r.pdf", b"%PDF")):
        target = str(tmp_path / name)
        done = runner.invoke(app, ["report", str(ledger), "--month", MONTH, "-o", target])
        assert done.exit_code == 0, done.output
        assert (tmp_path / name).read_bytes().startswith(start)
    shown = runner.invoke(app, ["report", str(ledger), "--month", MONTH])
    assert shown.stdout.startswith("<!doctype html>")
    for wrong in ("November", "2026-13", ""):
        assert runner.invoke(app, ["report", str(ledger), "--month", wrong]).exit_code == 2
    assert runner.invoke(app, ["report", str(tmp_path), "--month", MONTH]).exit_code == 1


@pytest.mark.parametrize(
    ("name", "since", "until"),
    [("2026-11", "2026-11-01", "2026-12-01"), ("2026-12", "2026-12-01", "2027-01-01")],
)
def test_a_month_ends_where_the_next_begins(name: str, since: str, until: str) -> None:
    assert [moment[:10] for moment in month_of(name)] == [since, until]


def test_a_request_decided_before_midnight_and_sent_after_it_counts_where_it_left(
    ledger: Path,
) -> None:
    """The records of this month, with the month's edge put between decisions and intents."""
    kinds = ("decision", "egress.intent", "egress.outcome")
    records: list[dict[str, Any]] = [
        {**record, "time": f"2026-0{1 + (record['kind'] != 'decision')}-01T00:00:00.000000Z"}
        for record in records_in(ledger)
        if record["kind"] in kinds
    ]
    january, february = (Month(name, *month_of(name)) for name in ("2026-01", "2026-02"))
    for month in (january, february):
        reader = Reader(month)
        reader.read(iter(records))
        reader.count()
    assert (january.decisions, january.transfers) == (9, {})
    assert (february.decisions, february.uninspected) == (0, 0)
    assert sum(row.requests for row in february.transfers.values()) == 3


def test_a_month_after_the_last_record_says_so(ledger: Path, tmp_path: Path) -> None:
    later = datetime.now(UTC) + timedelta(days=40)
    copy = Path(shutil.copytree(ledger.parent, tmp_path / "copy"))
    Sealer(FileStore(copy / "ledger", copy / "keys"), "ringfence/egress", lambda: later).seal([])
    after = read_month(copy / "ledger", f"{later:%Y-%m}")
    assert after.head == list(stored_heads(copy / "ledger"))[-1]
    assert after.decisions == 0
    assert after.gaps[0]["why"].startswith("no checkpoint")


def test_charts_are_to_scale_and_escaped() -> None:
    chart = columns("a <chart>", [("01", {"stayed": 3, "left": 1}), ("02", {})])
    heights = {bar.about: bar.height for bar in chart.bars if bar.about}
    assert heights["01: 3 stayed"] == pytest.approx(3 * heights["01: 1 left"])
    assert "a &lt;chart&gt;" in to_svg(chart)
    rows = lines("b", [("x", {"left": 10}), ("y", {"left": 5}), ("z", {})])
    widths = [bar.width for bar in rows.bars]
    assert widths[0] == pytest.approx(2 * widths[1])
    assert [nice_top(n) for n in (0, 1, 2, 3, 11, 999, 1000)] == [1, 1, 2, 5, 20, 1000, 1000]
