"""A ledger is followed while it is written, by the same filters as a query."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.query import Filter, query
from audit.tail import Follower, fits, follow, row_of
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome, open_ledger
from tests.audit.test_query import a_decision


async def write_some(folder: Path) -> Path:
    made = open_ledger(folder)
    await made.event("start", {"version": "1", "cloud": True})
    await made.decision(a_decision("billing", "PERSON", "local"))
    await made.decision(a_decision("desk", "IBAN_CODE", "cloud"))
    await made.outcome(an_outcome(await made.intent(an_intent(), b"body", ORIGIN)))
    await made.close()
    return folder / "ledger"


FILTERS = [
    Filter(),
    Filter(kind="decision"),
    Filter(app="billing"),
    Filter(app="nobody"),
    Filter(team="blue", entity="PERSON"),
    Filter(category="identity", route="cloud"),
    Filter(rule="people-stay", action="allow"),
    Filter(destination="eu"),
    Filter(sent="yes"),
]


@pytest.mark.parametrize("wanted", FILTERS, ids=repr)
async def test_finds_and_shows_what_a_query_does(wanted: Filter, tmp_path: Path) -> None:
    ledger = await write_some(tmp_path)
    rows = [row_of(members) for _, members in Follower(ledger).news() if fits(members, wanted)]
    assert sorted(rows, key=str) == sorted(query(ledger, wanted), key=str)


async def test_shows_the_last_ones_then_each_that_comes_whole(tmp_path: Path) -> None:
    ledger = await write_some(tmp_path)
    segment = next((ledger / "wal").rglob("*.jsonl"))
    stored = segment.read_bytes()
    *_, last = stored.splitlines(keepends=True)
    segment.write_bytes(stored[: -len(last)])
    steps = iter([last[:20], last[20:], b"", b'not json\n{"v":1}\n'])

    def wait() -> bool:
        step = next(steps, None)
        if step is not None:
            with segment.open("ab") as file:
                file.write(step)
        return step is not None

    seen = [members.get("kind") for _, members in follow(ledger, Filter(), 2, wait)]
    assert seen == ["egress.intent", "egress.outcome", "chain.closed", None]


async def test_a_segment_that_is_packed_away_meanwhile_is_no_fault(tmp_path: Path) -> None:
    ledger = await write_some(tmp_path)
    follower = Follower(ledger)
    assert follower.news()
    next((ledger / "wal").rglob("*.jsonl")).unlink()
    assert follower.news() == []
    second = await write_some(tmp_path)
    assert next(members["kind"] for _, members in Follower(second).news()) == "chain.opened"


async def test_the_command_writes_lines_as_stored_or_readable(tmp_path: Path) -> None:
    ledger = await write_some(tmp_path)
    runner = CliRunner()
    args = ["tail", str(ledger), "--no-follow", "--where", "kind=decision"]
    done = runner.invoke(app, [*args, "--format", "json", "--lines", "1"])
    stored = next((ledger / "wal").rglob("*.jsonl")).read_text().splitlines()
    assert done.stdout.strip() in stored
    assert json.loads(done.stdout)["caller"]["app"] == "desk"
    shown = runner.invoke(app, args).stdout
    assert "billing" in shown
    assert "IBAN_CODE:2" in shown
    assert runner.invoke(app, [*args[:3], "--where", "x=y"]).exit_code == 2
    assert runner.invoke(app, ["tail", str(tmp_path), "--no-follow"]).exit_code == 2


async def test_what_a_forged_record_says_does_not_steer_the_terminal(tmp_path: Path) -> None:
    ledger = await write_some(tmp_path)
    segment = next((ledger / "wal").rglob("*.jsonl"))
    forged = {"kind": "decision", "id": "x", "time": "2026", "caller": {"app": "\x1b[2J[red]=1+1"}}
    with segment.open("ab") as file:
        file.write(json.dumps(forged).encode() + b"\n")
    for command in (["tail", "--no-follow"], ["query"], ["query", "--format", "csv"]):
        shown = CliRunner().invoke(app, [*command, str(ledger)]).stdout
        assert "\x1b[2J" not in shown
        assert "[red]" in shown
