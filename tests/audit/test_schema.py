"""The published schema fits what is written, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from audit.chain import read_line
from audit.cli import app
from audit.field_names import FRAME, KINDS
from audit.record import CallerRecord, ReplayRecord
from audit.schema import record_schema
from tests.audit.test_ledger import (
    ORIGIN,
    abandon,
    an_intent,
    an_outcome,
    lines_of,
    open_ledger,
)
from tests.audit.test_query import a_decision
from tests.harness import SCHEMA
from tests.reference_pages import DOCS


async def a_ledger(folder: Path) -> list[dict[str, object]]:
    """A record of every kind, recovery and lost intents too."""
    lost = open_ledger(folder)
    await lost.intent(an_intent(), b"body", ORIGIN)
    abandon(lost)
    ledger = open_ledger(folder)
    await ledger.event("start", {"version": "1.0", "cloud": True, "workers": 2, "load": 0.5})
    await ledger.decision(a_decision("billing", "PERSON", "cloud"))
    for answer in (b"answer", None):
        permit = await ledger.intent(an_intent(), b"body", ORIGIN)
        await ledger.outcome(an_outcome(permit), answer)
    await ledger.intent(an_intent(), b"body", ORIGIN)
    caller = CallerRecord("billing", "finance", "prod", "key-1")
    for decision_id in ("dec_" + "a" * 28, None):
        await ledger.replay(ReplayRecord(decision_id, "req_1", "responses", caller, 200))
    await ledger.close()
    return [read_line(line) for line in lines_of(folder)]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(record_schema())


async def test_every_record_of_a_ledger_fits(tmp_path: Path) -> None:
    records = await a_ledger(tmp_path)
    kinds = {str(record["kind"]) for record in records}
    assert kinds == {"start", *KINDS} - {"event"}
    for record in records:
        SCHEMA.validate(record)


async def test_a_machine_whose_boot_digest_holds_a_run_of_digits_writes_records_too(
    tmp_path: Path,
) -> None:
    opened = next(one for one in await a_ledger(tmp_path) if one["kind"] == "chain.opened")
    record = {**opened, "boot": "b_19ae9cbd33c58c7645c43c954941"}
    assert [fault.message for fault in SCHEMA.iter_errors(record)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "Write to Jane Doe"},
        {"api_route": "Write to Jane Doe, who lives in Paris."},
        {"api_route": "card 4111111111111111"},
        {"v": 2},
        {"kind": "egress.intent"},
        {"coverage": {"strings": 1}},
        {"time": "yesterday"},
        {"sum": "0"},
    ],
    ids=lambda change: "-".join(change),
)
async def test_what_is_no_record_does_not_fit(change: dict[str, object], tmp_path: Path) -> None:
    (record,) = (r for r in await a_ledger(tmp_path) if r["kind"] == "decision")
    assert SCHEMA.is_valid(record)
    assert not SCHEMA.is_valid({**record, **change})


@pytest.mark.parametrize("kind", KINDS)
def test_every_member_has_a_meaning_and_no_meaning_lacks_its_member(kind: str) -> None:
    shape = record_schema()["$defs"][kind]
    described = {*members_of(shape, "")} - set(FRAME)
    assert described == set(KINDS[kind])


def members_of(shape: dict[str, object], at: str) -> list[str]:
    """The paths of every member that the schema names."""
    properties = shape.get("properties")
    found = []
    for name, member in properties.items() if isinstance(properties, dict) else ():
        found.append(f"{at}{name}")
        for inner in (member, *member.get("anyOf", [])):
            found += members_of(inner, f"{at}{name}.")
        for item in member.get("items", {}).get("anyOf", []):
            found += members_of(item, f"{at}{name}[].")
    return found


def test_the_page_of_the_members_and_the_published_file_are_current() -> None:
    assert json.loads((DOCS / "record-schema.json").read_text()) == record_schema()
    page = (DOCS / "record-fields.md").read_text()
    for members in KINDS.values():
        for path in members:
            assert f"`{path}`" in page


def test_the_command_prints_the_schema() -> None:
    done = CliRunner().invoke(app, ["schema"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, record_schema())


def test_a_pattern_of_the_schema_means_the_same_in_other_languages() -> None:
    """No pattern uses what ECMA 262, which JSON Schema follows, reads otherwise."""
    text = json.dumps(record_schema())
    patterns = re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', text)
    assert patterns
    assert [p for p in patterns if re.search(r"\\\\[AZ]|\(\?P|\(\?[aiLmsux]", p)] == []
