"""Records are found by what they say, newest first, and nothing but values enters the question."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.query import SHOWN, UNINSPECTED_SHOWN, Filter, query, uninspected_egress
from audit.record import (
    CallerRecord,
    CoverageRecord,
    DecisionRecord,
    EntityRecord,
    PolicyRecord,
    RoleRecord,
    RoutingRecord,
    RuleRecord,
)
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome, open_ledger


def a_decision(app_name: str, entity: str, route: str) -> DecisionRecord:
    return DecisionRecord(
        decision_id="dec_" + "0" * 28,
        request_id="req_" + "0" * 28,
        api_route="chat.completions",
        caller=CallerRecord(app_name, "blue", "prod", "key"),
        policy=PolicyRecord("sha256:" + "0" * 64, 1, "allow", (RuleRecord("people-stay", "p", 1),)),
        coverage=CoverageRecord(1, 1, 0, ()),
        languages=("en",),
        detectors=(("names", "1"),),
        entities=(EntityRecord(entity, "identity", 2, 0.9, (RoleRecord("user", 2, 0.9),)),),
        routing=RoutingRecord(
            route, "pinned", False, "mean_logprob", -0.5, -0.6, None, (), None
        ),
        latency_ms=(("inspection", 1.0),),
    )  # fmt: skip


@pytest.fixture
async def ledger(tmp_path: Path) -> Path:
    """Three decisions and one egress."""
    made = open_ledger(tmp_path)
    await made.decision(a_decision("billing", "PERSON", "local"))
    await made.decision(a_decision("billing", "IBAN_CODE", "local"))
    await made.decision(a_decision("help's desk", "PERSON", "cloud"))
    permit = await made.intent(an_intent(), b"body", ORIGIN)
    await made.outcome(an_outcome(permit))
    await made.close()
    return tmp_path / "ledger"


def test_finds_by_each_member(ledger: Path) -> None:
    def num(**wanted: str) -> int:
        return len(query(ledger, Filter(**wanted)))  # type: ignore[arg-type]

    assert num(kind="decision") == 3
    assert num(app="billing") == 2
    assert num(app="billing", entity="PERSON") == 1
    assert num(category="identity", route="cloud") == 1
    assert num(rule="people-stay", action="allow", team="blue") == 3
    assert num(destination="eu") == 1
    (outcome,) = query(ledger, Filter(kind="egress.outcome"))
    assert outcome["cost_usd"] == 0.0002
    assert num(app="nobody") == 0
    assert num(app="x' OR '1'='1") == 0


def test_newest_first_within_the_time_that_was_asked_for(ledger: Path) -> None:
    rows = query(ledger, Filter())
    times = [row["time"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert len(query(ledger, Filter(), limit=2)) == 2
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    assert len(query(ledger, Filter(since=now - hour, until=now + hour))) == len(rows)
    assert query(ledger, Filter(since=now + hour)) == []
    assert query(ledger, Filter(until=(now - hour).replace(tzinfo=None))) == []


def test_passes_over_a_torn_tail(ledger: Path) -> None:
    before = len(query(ledger, Filter()))
    segment = next((ledger / "wal").rglob("*.jsonl"))
    with segment.open("ab") as file:
        file.write(b'{"v":1,"kind":"decis')
    assert len(query(ledger, Filter())) == before


def test_the_command_writes_table_json_and_csv(ledger: Path, tmp_path: Path) -> None:
    def run(*more: str) -> str:
        done = CliRunner().invoke(app, ["query", str(ledger), *more])
        assert done.exit_code == 0, done.output
        return done.stdout

    lines = run("--where", "app=billing", "--format", "json").splitlines()
    assert [json.loads(line)["entities"] for line in lines] == ["IBAN_CODE:2", "PERSON:2"]
    rows = list(csv.DictReader(io.StringIO(run("--where", "route=cloud", "--format", "csv"))))
    assert (len(rows), tuple(rows[0])) == (1, SHOWN)
    told = "".join(run("--where", "kind=decision", "--limit", "1").split())
    assert "dec" in told
    assert "…" not in told  # folded, never cut: an id is there to be copied
    assert "no record fits" in run("--where", "app=nobody")


@pytest.mark.parametrize("where", ["app", "colour=red", "since=2026", "=x"])
def test_the_command_refuses_what_it_does_not_know(ledger: Path, where: str) -> None:
    done = CliRunner().invoke(app, ["query", str(ledger), "--where", where])
    assert done.exit_code == 2
    assert "name=value" in done.stderr


async def an_egress(folder: Path, coverage: CoverageRecord | None) -> Path:
    """A ledger with one egress whose decision says this of its coverage; None: no decision."""
    made = open_ledger(folder)
    if coverage is not None:
        await made.decision(replace(a_decision("a", "PERSON", "cloud"), coverage=coverage))
    await made.outcome(an_outcome(await made.intent(an_intent(), b"body", ORIGIN)))
    await made.close()
    return folder / "ledger"


@pytest.mark.parametrize(
    ("coverage", "why"),
    [
        (CoverageRecord(3, 2, 1, ()), None),
        (CoverageRecord(3, 2, 0, (("image", 1),)), "image"),
        (CoverageRecord(3, 2, 0, ()), "the coverage does not add up"),
        (None, "no decision on record"),
    ],
    ids=["whole", "unscannable", "unsound", "undecided"],
)
async def test_tells_every_egress_that_was_not_inspected_to_its_last_string(
    tmp_path: Path, coverage: CoverageRecord | None, why: str | None
) -> None:
    ledger = await an_egress(tmp_path, coverage)
    found = [] if why is None else [why]
    assert [row["why"] for row in uninspected_egress(ledger, Filter())] == found
    done = CliRunner().invoke(app, ["query", str(ledger), "--uninspected-egress"])
    assert f"uninspected egress = {len(found)}" in done.stdout
    assert done.exit_code == len(found)
    form = ["--format", "csv", "--until", "2020-01-01"]
    earlier = CliRunner().invoke(app, ["query", str(ledger), "--uninspected-egress", *form])
    assert (earlier.exit_code, earlier.stdout) == (0, ",".join(UNINSPECTED_SHOWN) + "\n")


def test_no_ledger_is_exit_code_2(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["query", str(tmp_path)])
    assert (done.exit_code, "no ledger" in done.stderr) == (2, True)
