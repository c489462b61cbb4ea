"""Packed segments are read as before, by every command; whatever is changed in one is found."""

from __future__ import annotations

import asyncio
import io
import random
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.bundle import check_bundle, make_bundle
from audit.cli import app
from audit.packing import MIN_BYTES, finished_segments, pack_ledger
from audit.proof import prove_record
from audit.query import Filter, query
from audit.replay import WAL
from audit.segments import (
    MAX_BYTES,
    PACKED,
    BadSegment,
    all_segments,
    chain_lines,
    pack,
    segments_of,
    unpack,
)
from audit.siem.source import FileSource, items_of
from audit.sinks.file import SUFFIX, FileSink
from audit.statement import attest
from audit.tail import Follower
from audit.verify import verify
from proxy.commands.ask import recorded_route
from proxy.policy.replay import read_decisions
from tests.audit.independent_verifier import Check
from tests.audit.test_ledger import ORIGIN, abandon, an_intent, an_outcome, open_ledger
from tests.audit.test_query import a_decision
from tests.audit.test_statement import HEALTH, SINCE, UNTIL


@contextmanager
def small_segments(num_bytes: int = 3000) -> Iterator[None]:
    """A new segment every few records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("audit.sinks.file.SEGMENT_BYTES", num_bytes)
        yield


async def exchange(folder: Path, num: int, *, crash: bool = False) -> None:
    """``num`` requests that leave, in one chain, sealed one by one."""
    ledger = open_ledger(folder)
    for _ in range(num):
        id_ = f"dec_{secrets.token_hex(14)}"
        await ledger.decision(replace(a_decision("desk", "PERSON", "cloud"), decision_id=id_))
        permit = await ledger.intent(an_intent(id_), b"body", ORIGIN)
        await ledger.outcome(an_outcome(permit))
        await asyncio.to_thread(ledger._seal_thread.seal_once)
    if crash:
        abandon(ledger)
    else:
        await ledger.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chains of some segments each; a crash left the first."""
    folder = tmp_path_factory.mktemp("plain")
    with small_segments():
        asyncio.run(exchange(folder, 6, crash=True))
        asyncio.run(exchange(folder, 6))
    return folder


@pytest.fixture
def packed(plain: Path, tmp_path: Path) -> Path:
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    assert pack_ledger(tmp_path / "ledger", min_bytes=0).num_segments >= 6
    return tmp_path / "ledger"


def lines_in(ledger: Path) -> list[bytes]:
    return [line for folder in sorted((ledger / WAL).iterdir()) for line in chain_lines(folder)]


def test_a_packed_ledger_is_read_as_before(plain: Path, packed: Path) -> None:
    before, keys = plain / "ledger", packed.parent / "keys"
    assert {segment.suffix for segment in all_segments(packed / WAL)} == {PACKED}
    assert lines_in(packed) == lines_in(before)
    assert verify(packed) == verify(before)
    assert Check(packed).run() == []
    assert query(packed, Filter()) == query(before, Filter())
    id_ = query(packed, Filter(kind="egress.intent"))[3]["id"]
    assert prove_record(packed, id_) == prove_record(before, id_)
    assert check_bundle(io.BytesIO(make_bundle(packed, keys, SINCE, UNTIL)), None).num_records > 30
    assert attest(packed, keys, HEALTH)
    assert list(read_decisions(packed)) == list(read_decisions(before))
    decision = query(packed, Filter(kind="decision"))[3]["decision_id"]
    assert recorded_route(packed, decision) == recorded_route(before, decision) != {}
    sources = FileSource(packed), FileSource(before)
    for index in range(sources[0].newest_index() + 1):
        assert list(items_of(sources[0], index)) == list(items_of(sources[1], index))


def test_auditors_read_it_with_what_every_machine_has(plain: Path, packed: Path) -> None:
    files = [str(segment.path) for segment in all_segments(packed / WAL)]
    shown = subprocess.run(["gzip", "-dc", *files], capture_output=True, check=True).stdout
    assert shown.splitlines() == lines_in(plain / "ledger")


def test_who_follows_a_ledger_does_not_see_packed_records_again(
    plain: Path, tmp_path: Path
) -> None:
    ledger = Path(shutil.copytree(plain / "ledger", tmp_path / "ledger"))
    follower = Follower(ledger)
    assert len(follower.news()) == len(lines_in(ledger))
    pack_ledger(ledger, min_bytes=0)
    assert follower.news() == []


def test_what_is_still_written_stays_plain_and_a_crash_then_loses_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        ledger = open_ledger(tmp_path)
        for _ in range(6):
            await ledger.intent(an_intent(), b"body", ORIGIN)
        await asyncio.to_thread(ledger._seal_thread.seal_once)
        await ledger.intent(an_intent(), b"body", ORIGIN)
        assert pack_ledger(tmp_path / "ledger", min_bytes=0).num_segments >= 2
        await ledger.intent(an_intent(), b"body", ORIGIN)
        abandon(ledger)

    with small_segments(1000):
        asyncio.run(run())
        (chain,) = (tmp_path / "ledger" / WAL).iterdir()
        forms = [segment.suffix for segment in segments_of(chain)]
        assert forms == sorted(forms, reverse=True) and set(forms) == {SUFFIX, PACKED}  # noqa: PT018
        assert verify(tmp_path / "ledger").faults == []
        asyncio.run(open_ledger(tmp_path).close())  # adopts the chain
    report = verify(tmp_path / "ledger")
    assert (report.faults, report.open_chains, report.open_intents) == ([], 0, 0)
    assert report.kinds["egress.outcome"] == 8


def test_what_no_checkpoint_covers_or_is_small_is_left_plain(plain: Path, tmp_path: Path) -> None:
    ledger = Path(shutil.copytree(plain / "ledger", tmp_path / "ledger"))
    assert max(s.path.stat().st_size for s in all_segments(ledger / WAL)) < MIN_BYTES
    assert pack_ledger(ledger).num_segments == 0
    num_finished = len(list(finished_segments(ledger)))
    newest = sorted((ledger / "tlog" / "heads").rglob("[0-9]" * 9))[-1]
    newest.unlink()
    assert len(list(finished_segments(ledger))) == num_finished - 1


def test_a_run_that_a_crash_cut_short_is_gone_on_with(plain: Path, tmp_path: Path) -> None:
    ledger = Path(shutil.copytree(plain / "ledger", tmp_path / "ledger"))
    one, two, *_ = all_segments(ledger / WAL)
    one.as_form(PACKED).path.write_bytes(b"half of it")
    draft = two.folder / f".{two.stem}{PACKED}.00ff"
    draft.write_bytes(b"half of it")
    assert verify(ledger).is_sound  # the plain form counts
    assert pack_ledger(ledger, min_bytes=0).num_segments >= 6
    assert not draft.exists()
    assert verify(ledger).is_sound
    assert lines_in(ledger) == lines_in(plain / "ledger")


def test_every_changed_byte_of_a_packed_segment_is_found_or_changes_no_record(packed: Path) -> None:
    dice = random.Random(20261125)  # noqa: S311  # a seeded choice of places, no secret
    lines, found = lines_in(packed), 0
    for segment in all_segments(packed / WAL):
        whole = segment.path.read_bytes()
        for _ in range(12):
            at = dice.randrange(len(whole))
            bit = bytes([whole[at] ^ 1 << dice.randrange(8)])
            segment.path.write_bytes(whole[:at] + bit + whole[at + 1 :])
            is_sound = verify(packed).is_sound
            assert (Check(packed).run() == []) is is_sound
            assert not is_sound or lines_in(packed) == lines
            found += not is_sound
        segment.path.write_bytes(whole)
    assert found > 60


def test_a_packed_segment_that_is_gone_cut_or_another_s_is_found(packed: Path) -> None:
    one, two, *_ = [segment.path for segment in all_segments(packed / WAL)]
    whole, other = one.read_bytes(), two.read_bytes()
    lines = unpack(whole)
    fakes = [whole[:-1], whole + b"\n", whole + whole, b"", other, pack(lines[:-1]), lines]
    for fake in fakes:
        one.write_bytes(fake)
        assert not verify(packed).is_sound
        assert Check(packed).run() != []
    one.unlink()
    assert not verify(packed).is_sound


def test_a_small_file_does_not_unpack_to_a_huge_one(packed: Path) -> None:
    bomb = pack(bytes(MAX_BYTES + 1))
    assert len(bomb) < 300_000
    with pytest.raises(BadSegment):
        unpack(bomb)
    all_segments(packed / WAL)[0].path.write_bytes(bomb)
    assert next(fault.problem for fault in verify(packed).faults) == "it cannot be unpacked"
    done = CliRunner().invoke(app, ["prove", "int_0", str(packed)])
    assert (done.exit_code, "is not what was packed" in done.output) == (1, True)


def test_a_new_day_begins_a_new_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = [20_000]
    monkeypatch.setattr(FileSink, "_today", lambda _: day[0])
    sink = FileSink(tmp_path / "c", tmp_path / "q")
    for _ in range(3):
        sink.append([b"one", b"two"])
        sink.append([b"three"])
        day[0] += 1
    sink.close()
    assert [segment.stem[-1] for segment in segments_of(tmp_path / "c")] == ["0", "3", "6"]


def test_the_command_says_what_it_saved(packed: Path, plain: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["pack", "--ledger", str(packed)])
    assert done.stdout.startswith("packed: 0 segments")
    assert CliRunner().invoke(app, ["pack", "--ledger", str(tmp_path / "no")]).exit_code == 1
