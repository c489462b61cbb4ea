"""Captured answers: the auditor alone reads them, and they go with their bodies."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.acts import UnknownRecord
from audit.capture_keys import load_private_key
from audit.captures import erase_body, open_answer_to, open_body, remove_orphans
from audit.chain import read_line
from audit.cli import app
from audit.disk import publish
from audit.errors import LedgerUnwritable
from audit.ledger import Ledger
from audit.vault import (
    Answered,
    CaptureUnreadable,
    answer_path,
    commitment_to,
    open_answer,
    vault_refs,
)
from audit.verify import verify
from tests.audit.test_ledger import ORIGIN, abandon, an_intent, an_outcome, lines_of
from tests.audit.test_prune import Old, new_id, next_second
from tests.audit.test_vault import Room, is_found_changed_swapped_or_missing
from tests.audit.test_vault import room as room
from tests.audit.test_vault import tiny_vault as tiny_vault
from tests.harness import SCHEMA

BODY = b'{"messages":[]}'
ANSWER = b"canary-9c2d4a-Margarete-Oberhuber"
WHY = ("gdpr_art_17", "jane")


def answered(room: Room, *answers: bytes) -> list[str]:
    """Record an egress with each of ``answers`` kept; gives the ids of the intents."""

    async def run() -> list[str]:
        ledger = room.open()
        ids = []
        for answer in answers:
            permit = await ledger.intent(an_intent(new_id()), BODY, ORIGIN)
            await ledger.outcome(an_outcome(permit), answer, keep=True)
            ids.append(permit.intent_id)
        await ledger.close()
        return ids

    return asyncio.run(run())


def told(room: Room) -> list[object]:
    """What the outcomes say of their answers."""
    records = [read_line(line) for line in lines_of(room.folder)]
    for record in records:
        SCHEMA.validate(record)
    return [record.get("vault") for record in records if record["kind"] == "egress.outcome"]


def stored(room: Room) -> list[Path]:
    return [path for path in room.files() if path.suffix == ".answer"]


def test_the_auditor_reads_the_answer_as_it_came_and_nobody_else_does(
    room: Room, tmp_path: Path
) -> None:
    answers = [ANSWER, b"", bytes(range(256)) * 5000, ANSWER]
    ids = answered(room, *answers)
    assert [open_answer_to(room.ledger, id_, room.key) for id_ in ids] == answers
    assert open_body(room.ledger, ids[0], room.key) == BODY
    out = tmp_path / "answer"
    assert (
        room.run("open", ids[0], "--answer", "--key", str(room.key), "-o", str(out)).exit_code == 0
    )
    assert (out.read_bytes(), stat.S_IMODE(out.stat().st_mode)) == (ANSWER, 0o600)
    everything = [path.read_bytes() for path in room.ledger.rglob("*") if path.is_file()]
    assert not any(ANSWER in data for data in everything)
    assert {stat.S_IMODE(path.stat().st_mode) for path in room.files()} == {0o600}
    assert len({path.read_bytes() for path in stored(room)}) == 4  # the same answer twice, too
    report = verify(room.ledger)
    assert (report.faults, report.num_answers, report.num_orphans) == ([], 4, 0)
    assert "4 captured answers; 0 could not be kept" in room_says(room)
    assert all(one is not None for one in told(room))


def room_says(room: Room) -> str:
    return CliRunner().invoke(app, ["verify", str(room.ledger)]).output.replace("\n", " ")


@pytest.mark.parametrize("captures", [True, False])
def test_nothing_is_kept_that_was_not_asked_for_or_has_no_place(captures: bool, room: Room) -> None:
    async def run() -> str:
        ledger = room.open() if captures else Ledger.open(room.ledger, keys_dir=room.keys)
        permit = await ledger.intent(an_intent(), BODY, ORIGIN)
        await ledger.outcome(an_outcome(permit), ANSWER, keep=not captures)
        another = await ledger.intent(an_intent(), BODY, ORIGIN)
        await ledger.outcome(an_outcome(another), None, keep=True)  # no answer came
        await ledger.close()
        return permit.intent_id

    id_ = asyncio.run(run())
    assert (told(room), stored(room)) == ([None, None], [])
    with pytest.raises(UnknownRecord):
        open_answer_to(room.ledger, id_, room.key)
    assert verify(room.ledger).num_answers == 0


def test_a_changed_or_swapped_or_missing_answer_is_found(room: Room) -> None:
    ids = answered(room, b"one", b"two")
    is_found_changed_swapped_or_missing(
        room, ".answer", "answer", lambda: open_answer_to(room.ledger, ids[0], room.key)
    )
    assert verify(room.ledger).is_sound  # with the file as it was


def test_an_answer_opens_in_its_own_place_alone_whatever_a_record_says(room: Room) -> None:
    answered(room, b"one", b"two")
    one, two = stored(room)
    ref, foreign = one.stem, two.read_bytes()
    one.write_bytes(foreign)
    with pytest.raises(CaptureUnreadable, match="does not open"):
        open_answer(room.vault, Answered(ref, commitment_to(foreign)), load_private_key(room.key))
    # Nor does a body pass for an answer: key and text of the same capture, put together.
    forged = one.with_suffix(".key").read_bytes() + one.with_suffix(".body").read_bytes()
    one.write_bytes(forged)
    with pytest.raises(CaptureUnreadable, match="does not open"):
        open_answer(room.vault, Answered(ref, commitment_to(forged)), load_private_key(room.key))


def test_body_and_answer_are_erased_together(room: Room) -> None:
    ids = answered(room, b"one", ANSWER)
    gone = answer_path(room.vault, refs(room)[1])
    held = os.open(gone, os.O_RDONLY)
    erase_body(room.ledger, room.keys, ids[1], *WHY)
    assert set(os.pread(held, 80, 0)) == {0}  # its key was overwritten before it was removed
    os.close(held)
    assert (gone.exists(), len(room.files())) == (False, 3)
    report = verify(room.ledger)
    assert (report.faults, report.num_erased, report.unfinished_erasures) == ([], 1, [])
    for opened in (open_answer_to, open_body):
        with pytest.raises(CaptureUnreadable, match="erased"):
            opened(room.ledger, ids[1], room.key)
    assert open_answer_to(room.ledger, ids[0], room.key) == b"one"


def test_every_attempt_of_a_request_is_erased_with_any_of_them(room: Room) -> None:
    async def run() -> list[str]:
        ledger, decision = room.open(), new_id()
        ids = []
        for told in (an_intent(decision), replace(an_intent(decision), attempt=2), an_intent()):
            permit = await ledger.intent(told, BODY, ORIGIN)
            await ledger.outcome(an_outcome(permit), ANSWER, keep=True)
            ids.append(permit.intent_id)
        await ledger.close()
        return ids

    first, second, other = asyncio.run(run())
    where = ("--keys", str(room.keys), "--reason", WHY[0], "--by", WHY[1])
    done = room.run("erase", second, *where)
    assert (done.exit_code, "in all its 2 attempts" in done.output) == (0, True)
    for id_ in (first, second):
        for opened in (open_answer_to, open_body):
            with pytest.raises(CaptureUnreadable, match="erased"):
                opened(room.ledger, id_, room.key)
    assert open_body(room.ledger, other, room.key) == BODY
    assert len(room.files()) == 3
    assert room.run("erase", first, *where).exit_code == 0  # again, and nothing more is recorded
    report = verify(room.ledger)
    assert (report.faults, report.num_erased, report.unfinished_erasures) == ([], 2, [])


def refs(room: Room) -> list[str]:
    """The captures in the order of their intents."""
    records = [read_line(line) for line in lines_of(room.folder)]
    return [str(r["vault"]["ref"]) for r in records if r["kind"] == "egress.intent"]  # type: ignore[index]


def test_an_erasure_that_leaves_the_answer_is_told_and_done_again(room: Room) -> None:
    (id_,) = answered(room, ANSWER)
    (path,) = stored(room)
    kept = path.read_bytes()
    erase_body(room.ledger, room.keys, id_, *WHY)
    # Put back; or a draft of it, whose writer was killed before it had its name.
    for left in (path, path.with_name(f".{path.name}.0123")):
        left.write_bytes(kept)
        report = verify(room.ledger)
        assert (report.faults, report.unfinished_erasures) == ([], [path.stem])
        erase_body(room.ledger, room.keys, id_, *WHY)
        assert (verify(room.ledger).unfinished_erasures, room.files()) == ([], [])


def test_no_answer_comes_to_an_erased_capture(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        ledger = room.open()
        before = await ledger.intent(an_intent(), BODY, ORIGIN)
        await asyncio.to_thread(erase_body, room.ledger, room.keys, before.intent_id, *WHY)
        await ledger.outcome(an_outcome(before), ANSWER, keep=True)
        between = await ledger.intent(an_intent(), BODY, ORIGIN)

        def erased_meanwhile(path: Path, data: bytes) -> None:
            publish(path, data)
            # The key is destroyed, and the eraser has not come to the answer yet.
            path.with_suffix(".key").unlink()

        with monkeypatch.context() as patch:
            patch.setattr("audit.vault.publish", erased_meanwhile)
            await ledger.outcome(an_outcome(between), ANSWER, keep=True)
        await ledger.close()

    asyncio.run(run())
    assert stored(room) == []
    assert told(room) == [{"ref": ref, "answer": None} for ref in refs(room)]


def test_an_answer_without_an_outcome_is_counted_and_removed_alone(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> str:
        ledger = room.open()
        permit = await ledger.intent(an_intent(), BODY, ORIGIN)

        async def die(*_: object) -> None:
            raise LedgerUnwritable("killed")

        with monkeypatch.context() as patch:
            patch.setattr("audit.ledger._durable", die)
            with pytest.raises(LedgerUnwritable):
                await ledger.outcome(an_outcome(permit), ANSWER, keep=True)
        abandon(ledger)
        await room.open().close()  # adopts the chain, and closes the intent as unknown
        return permit.intent_id

    id_ = asyncio.run(run())
    assert told(room) == [None]
    report = verify(room.ledger)
    assert (report.faults, report.num_answers, report.num_orphans) == ([], 0, 1)
    with pytest.raises(UnknownRecord):
        open_answer_to(room.ledger, id_, room.key)
    assert remove_orphans(room.ledger) == 0  # younger than an hour
    assert remove_orphans(room.ledger, -1) == 1
    assert (stored(room), verify(room.ledger).num_orphans) == ([], 0)
    assert open_body(room.ledger, id_, room.key) == BODY


@pytest.fixture(params=["full", "read-only", "planted"])
def unfit(request: pytest.FixtureRequest, room: Room, tiny_vault: Path) -> Iterator[str]:
    """A vault that takes a body, and no answer."""
    yield str(request.param)
    subprocess.run(["mount", "-o", "remount,rw", str(tiny_vault)], check=True)


def test_an_answer_that_cannot_be_kept_is_on_the_record_and_stops_nothing(
    unfit: str, room: Room, tiny_vault: Path
) -> None:
    async def run() -> None:
        ledger = room.open()
        permit = await ledger.intent(an_intent(), BODY, ORIGIN)
        answer = b"x" * 70_000 if unfit == "full" else ANSWER
        if unfit == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(tiny_vault)], check=True)
        if unfit == "planted":
            (body,) = (path for path in room.files() if path.suffix == ".body")
            body.with_suffix(".answer").write_bytes(b"foreign")
        await ledger.outcome(an_outcome(permit), answer, keep=True)
        assert ledger.writable
        subprocess.run(["mount", "-o", "remount,rw", str(tiny_vault)], check=True)
        again = await ledger.intent(an_intent(), BODY, ORIGIN)
        await ledger.outcome(an_outcome(again), ANSWER, keep=True)
        await ledger.close()

    asyncio.run(run())
    first, second = refs(room)
    assert told(room)[0] == {"ref": first, "answer": None}
    report = verify(room.ledger)
    assert (report.faults, report.num_answers, report.num_lost_answers) == ([], 1, 1)
    assert report.num_orphans == (unfit == "planted")
    assert vault_refs(room.ledger, ".answer") == {second, *([first] * (unfit == "planted"))}


async def test_a_fault_that_nobody_thought_of_costs_no_outcome(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    ledger = room.open()
    permit = await ledger.intent(an_intent(), BODY, ORIGIN)
    monkeypatch.setattr("audit.vault.Vault.keep_answer", fail)
    await ledger.outcome(an_outcome(permit), ANSWER, keep=True)
    await ledger.close()
    assert told(room) == [{"ref": refs(room)[0], "answer": None}]


def test_an_answer_goes_with_the_records_of_its_egress(room: Room) -> None:
    answered(room, b"one", b"two")
    old = Old(room.folder, next_second())
    (young,) = answered(room, b"three")
    old.prune()
    report = verify(room.ledger)
    assert (report.faults, report.num_answers, report.num_orphans) == ([], 1, 0)
    assert open_answer_to(room.ledger, young, room.key) == b"three"
    assert len(room.files()) == 3
