"""The ledger against a real disk: durability, permits, faults, recovery, tampering."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.chain import read_line
from audit.errors import LedgerUnwritable, PermitRefused
from audit.ledger import Ledger
from audit.permit import Permit, mint
from audit.record import (
    ConfidenceRecord,
    IntentRecord,
    OutcomeRecord,
    TransferRecord,
    fields_of,
    name_or_other,
)
from audit.verify import verify

TRANSFER = TransferRecord("Example Ltd", "IE", "intra_eea", "zero", training=False)
ORIGIN = "https://cloud.example:443"


def an_intent(decision_id: str = "dec_" + "0" * 28) -> IntentRecord:
    return IntentRecord(
        decision_id=decision_id,
        attempt=1,
        destination="eu",
        provider="openai",
        address="cloud.example",
        port=443,
        region="eu",
        model="gpt-4o",
        transfer=TRANSFER,
        strings_cleared=3,
        masked=(),
    )


def an_outcome(permit: Permit) -> OutcomeRecord:
    return OutcomeRecord(
        intent_id=permit.intent_id,
        decision_id=permit.decision_id,
        attempt=permit.attempt,
        sent="yes",
        status=200,
        error_type=None,
        model="gpt-4o",
        finish_reason="stop",
        provider_request_id="req_" + "0" * 32,
        prompt_tokens=1,
        completion_tokens=1,
        cost_usd=0.0002,
        restored=3,
        unknown_placeholders=0,
        marked_tool_calls=1,
        answer_scan="noted",
        answer_entities=(("EMAIL_ADDRESS", 1),),
        confidence=ConfidenceRecord("mean_logprob", -0.8, -0.5, "rungs_" + "0" * 28, ("hedge:i",)),
        bytes_sent=2,
        bytes_received=2,
        latency_ms=1.0,
    )


def open_ledger(folder: Path) -> Ledger:
    return Ledger.open(folder / "ledger", keys_dir=folder / "keys")


def abandon(ledger: Ledger) -> None:
    """Leave a ledger as a killed process does: no lock, no end of the chain."""
    ledger._seal_thread.stop()
    ledger._writer.stop()
    ledger._writer._sink.close()


def lines_of(folder: Path) -> list[bytes]:
    return [
        line
        for path in sorted((folder / "ledger" / "wal").rglob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]


def kinds_of(folder: Path) -> list[object]:
    return [read_line(line)["kind"] for line in lines_of(folder)]


async def test_an_intent_is_on_the_disk_before_its_permit_exists(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    permit = await ledger.intent(an_intent(), b"body", ORIGIN)
    stored = read_line(lines_of(tmp_path)[-1])
    assert stored["id"] == permit.intent_id
    assert stored["body"] == {"hmac": ledger.keyed_digest(b"body"), "bytes": 4}
    await ledger.close()


async def test_the_whole_story_is_sound(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    permits = await asyncio.gather(
        *(ledger.intent(an_intent(), b"body", ORIGIN) for _ in range(200))
    )
    await asyncio.gather(*(ledger.outcome(an_outcome(permit)) for permit in permits))
    await ledger.close()
    report = verify(tmp_path / "ledger")
    assert report.is_sound
    assert report.kinds == {
        "chain.opened": 1,
        "egress.intent": 200,
        "egress.outcome": 200,
        "chain.closed": 1,
    }
    assert (report.open_chains, report.open_intents) == (0, 0)


@pytest.mark.parametrize(
    ("body", "origin"),
    [(b"other", ORIGIN), (b"body", "https://elsewhere.example:443"), (b"", ORIGIN)],
    ids=["another body", "another origin", "no body"],
)
def test_a_permit_refuses_what_it_is_not_for(body: bytes, origin: str) -> None:
    permit = mint(ids=("int", "dec", 1), body=b"body", origin=ORIGIN)
    with pytest.raises(PermitRefused):
        permit.redeem(body, origin)
    with pytest.raises(PermitRefused, match="used before"):
        permit.redeem(b"body", ORIGIN)


def test_a_permit_serves_once_and_not_for_ever() -> None:
    now = [0.0]
    permit = mint(ids=("int", "dec", 1), body=b"body", origin=ORIGIN, clock=lambda: now[0])
    permit.redeem(b"body", ORIGIN)
    with pytest.raises(PermitRefused, match="used before"):
        permit.redeem(b"body", ORIGIN)
    late = mint(ids=("int", "dec", 1), body=b"body", origin=ORIGIN, clock=lambda: now[0])
    now[0] = 31.0
    with pytest.raises(PermitRefused, match="too old"):
        late.redeem(b"body", ORIGIN)


def test_a_permit_is_neither_made_nor_copied_by_others() -> None:
    with pytest.raises(PermitRefused, match="only the ledger"):
        Permit(object(), ids=("int", "dec", 1), body=b"", origin=ORIGIN)
    permit = mint(ids=("int", "dec", 1), body=b"body", origin=ORIGIN)
    for copier in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(PermitRefused):
            copier(permit)
    assert "body" not in repr(permit)


async def test_gives_no_permit_when_the_disk_takes_nothing_and_recovers(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    await ledger.intent(an_intent(), b"one", ORIGIN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        for _ in range(3):
            with pytest.raises(LedgerUnwritable):
                await ledger.intent(an_intent(), b"two", ORIGIN)
            assert not ledger.writable
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    await ledger.intent(an_intent(), b"three", ORIGIN)
    assert ledger.writable
    await ledger.close()
    assert kinds_of(tmp_path) == [
        "chain.opened",
        "egress.intent",
        "recovery",
        "egress.intent",
        "egress.outcome",
        "egress.outcome",
        "chain.closed",
    ]
    assert verify(tmp_path / "ledger").is_sound


async def test_a_cancelled_caller_leaves_the_writer_alive(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    tasks = [asyncio.create_task(ledger.intent(an_intent(), b"b", ORIGIN)) for _ in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await ledger.intent(an_intent(), b"b", ORIGIN)
    await ledger.close()
    assert verify(tmp_path / "ledger").is_sound


def test_refuses_to_open_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file stands where the folder should")
    with pytest.raises(LedgerUnwritable):
        open_ledger(tmp_path)


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.audit.test_ledger import an_intent, open_ledger, ORIGIN
async def main():
    ledger = open_ledger(Path(sys.argv[1]))
    while True:
        permit = await ledger.intent(an_intent(), b"body", ORIGIN)
        print(permit.intent_id, flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("delay_s", [0.05, 0.1, 0.15, 0.2, 0.25])
async def test_every_permit_given_before_a_kill_is_on_the_record(
    delay_s: float, tmp_path: Path
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    given = {child.stdout.readline().strip()}
    time.sleep(delay_s)
    child.kill()
    given |= {line.strip() for line in child.stdout if len(line.strip()) == 32}
    child.stdout.close()
    child.wait()
    await open_ledger(tmp_path).close()
    members = [read_line(line) for line in lines_of(tmp_path)]
    recorded = {member["id"] for member in members if member["kind"] == "egress.intent"}
    closed = {member["intent_id"] for member in members if member["kind"] == "egress.outcome"}
    assert given <= recorded
    assert closed == recorded
    report = verify(tmp_path / "ledger")
    assert report.is_sound
    assert report.open_chains == 0


async def test_a_torn_tail_is_set_aside_and_said(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    await ledger.intent(an_intent(), b"body", ORIGIN)
    abandon(ledger)
    (segment,) = (tmp_path / "ledger" / "wal").rglob("*.jsonl")
    with segment.open("ab") as file:
        file.write(b'{"v":1,"kind":"egress.int')
    assert verify(tmp_path / "ledger").torn_tails
    await open_ledger(tmp_path).close()
    assert [path.read_bytes() for path in (tmp_path / "ledger" / "quarantine").iterdir()] == [
        b'{"v":1,"kind":"egress.int'
    ]
    recovery = [r for line in lines_of(tmp_path) if (r := read_line(line))["kind"] == "recovery"]
    assert [(r["reason"], r["cut_bytes"]) for r in recovery] == [("adopted", 25)]
    assert verify(tmp_path / "ledger").is_sound


async def test_leaves_a_living_writer_alone(tmp_path: Path) -> None:
    first, second = open_ledger(tmp_path), open_ledger(tmp_path)
    await asyncio.gather(
        *(ledger.intent(an_intent(), b"x", ORIGIN) for ledger in (first, second) * 20)
    )
    await first.close()
    await second.close()
    report = verify(tmp_path / "ledger")
    assert report.is_sound
    assert (report.num_chains, report.kinds.get("recovery", 0)) == (2, 0)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small closed ledger."""
    folder = tmp_path_factory.mktemp("story")

    async def write() -> None:
        ledger = open_ledger(folder)
        for _ in range(3):
            await ledger.outcome(an_outcome(await ledger.intent(an_intent(), b"body", ORIGIN)))
        await ledger.close()

    asyncio.run(write())
    return folder


def test_finds_any_flipped_bit(story: Path) -> None:
    (segment,) = (story / "ledger" / "wal").rglob("*.jsonl")
    whole = segment.read_bytes()
    try:
        for at in range(len(whole)):
            changed = bytearray(whole)
            changed[at] ^= 1 << (at % 8)
            segment.write_bytes(changed)
            report = verify(story / "ledger")
            assert report.faults or report.torn_tails, at
    finally:
        segment.write_bytes(whole)
    assert verify(story / "ledger").is_sound


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_finds_removed_doubled_and_swapped_records(story: Path, data: st.DataObject) -> None:
    (segment,) = (story / "ledger" / "wal").rglob("*.jsonl")
    whole = segment.read_bytes()
    lines = whole.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 2))
    other = data.draw(st.integers(at + 1, len(lines) - 1))
    swapped = list(lines)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    changed = data.draw(
        st.sampled_from(
            [lines[:at] + lines[at + 1 :], [*lines[:at], lines[at], *lines[at:]], swapped]
        )
    )
    try:
        segment.write_bytes(b"".join(changed))
        assert not verify(story / "ledger").is_sound
    finally:
        segment.write_bytes(whole)


@pytest.mark.parametrize(
    "text",
    ["4111 1111 1111 1111".replace(" ", ""), "jane\ndoe", "", "x" * 200, 'a"b', "+14155550132"],
)
def test_what_is_no_name_becomes_other(text: str) -> None:
    assert name_or_other(text) == "other"


@pytest.mark.parametrize("name", ["cal_1234567890123456", "rungs_" + "1" * 28])
def test_the_name_of_a_calibration_passes_whatever_its_digits(name: str) -> None:
    permit = mint(ids=("int_1", "dec_1", 1), body=b"", origin="https://a")
    told = ConfidenceRecord("min", -0.1, -0.5, name, ())
    members = fields_of(replace(an_outcome(permit), confidence=told))
    assert members["confidence"]["calibration"] == name  # type: ignore[index]


def test_names_of_our_configuration_pass() -> None:
    for name in ("gpt-4o-2024-08-06", "support-desk", "cloud.example", "EMAIL_ADDRESS", "v1.2+a"):
        assert name_or_other(name) in (name, "other")
    assert name_or_other("support-desk") == "support-desk"
    assert json.dumps(name_or_other("gpt-4o-mini")) == '"gpt-4o-mini"'
