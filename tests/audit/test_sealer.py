"""Checkpoints: heartbeats, keys that change by the day, starts that race, a lost key."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from audit.checkpoint import head_path, newest_index, read_head, text_of
from audit.errors import LedgerUnwritable
from audit.ledger import Ledger
from audit.note import BadNote, read_verifier_key, sign, signed_text
from audit.replay import edge_at, stored_heads
from audit.sealer import Sealer
from audit.stores.files import FileStore
from audit.verify import verify
from tests.audit.test_ledger import ORIGIN, abandon, an_intent, kinds_of, open_ledger


async def a_closed_ledger(folder: Path) -> Path:
    ledger = open_ledger(folder)
    await ledger.intent(an_intent(), b"body", ORIGIN)
    await ledger.close()
    return folder / "ledger"


async def test_gives_heartbeats_when_nothing_happens(tmp_path: Path) -> None:
    ledger = Ledger.open(
        tmp_path / "ledger", keys_dir=tmp_path / "keys", seal_every_s=0.01, heartbeat_s=0.02
    )
    for _ in range(500):
        if newest_index(tmp_path / "ledger") >= 3:
            break
        await asyncio.sleep(0.01)
    await ledger.close()
    report = verify(tmp_path / "ledger")
    assert report.is_sound
    assert any(head.runs == () for head in stored_heads(tmp_path / "ledger"))


async def test_a_key_signs_for_a_day_and_is_erased(tmp_path: Path) -> None:
    ledger = await a_closed_ledger(tmp_path)
    days = [datetime.now(UTC) + timedelta(days=number) for number in (1, 1, 2)]
    clock = iter(days)
    sealer = Sealer(FileStore(ledger, tmp_path / "keys"), "ringfence/egress", lambda: next(clock))
    for _ in days:
        sealer.seal([])
    assert [path.name for path in (tmp_path / "keys").glob("seal-*")] == ["seal-000002.key"]
    assert len(list((ledger / "keys").iterdir())) == 3
    assert verify(ledger).is_sound


async def test_todays_key_cannot_sign_yesterdays_checkpoint(tmp_path: Path) -> None:
    from audit.epochs import signer_for

    ledger = await a_closed_ledger(tmp_path)
    name, tomorrow = "ringfence/egress", datetime.now(UTC) + timedelta(days=1)
    Sealer(FileStore(ledger, tmp_path / "keys"), name, lambda: tomorrow).seal([])
    signer = signer_for(FileStore(ledger, tmp_path / "keys"), name, (f"{tomorrow:%Y-%m-%d}", 99))
    path = head_path(ledger, 0)
    path.write_bytes(sign(read_head(text_of(path.read_bytes())).text(), name, signer.key))
    assert not verify(ledger).is_sound


async def test_a_clock_set_back_a_day_raises_no_alarm(tmp_path: Path) -> None:
    ledger = await a_closed_ledger(tmp_path)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    Sealer(FileStore(ledger, tmp_path / "keys"), "ringfence/egress", lambda: yesterday).seal([])
    assert verify(ledger).is_sound


async def test_refuses_to_go_on_without_its_signing_key(tmp_path: Path) -> None:
    await a_closed_ledger(tmp_path)
    (tmp_path / "keys" / "seal-000000.key").unlink()
    with pytest.raises(LedgerUnwritable, match="signing key is missing"):
        open_ledger(tmp_path)


async def test_refuses_to_seal_after_a_checkpoint_was_taken_away(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    head_path(tmp_path / "ledger", 0).unlink()
    with pytest.raises(LedgerUnwritable, match="checkpoint has gone"):
        ledger._sealer.seal([])
    abandon(ledger)


async def test_finds_the_tree_again_without_its_hint(tmp_path: Path) -> None:
    ledger = await a_closed_ledger(tmp_path)
    for hint in (None, b"{", b'{"size":1,"hashes":["00"]}'):
        if hint is None:
            (ledger / "tlog" / "edge.json").unlink()
        else:
            (ledger / "tlog" / "edge.json").write_bytes(hint)
        await a_closed_ledger(tmp_path)
        assert verify(ledger).is_sound
    head = list(stored_heads(ledger))[-1]
    assert edge_at(FileStore(ledger, tmp_path / "keys"), head) is not None


def test_starts_at_one_moment_adopt_a_lost_chain_once(tmp_path: Path) -> None:
    async def lose() -> None:
        ledger = open_ledger(tmp_path)
        await ledger.intent(an_intent(), b"body", ORIGIN)
        abandon(ledger)

    asyncio.run(lose())
    with ThreadPoolExecutor(4) as pool:
        ledgers = list(pool.map(lambda _: open_ledger(tmp_path), range(4)))
    for ledger in ledgers:
        asyncio.run(ledger.close())
    assert kinds_of(tmp_path).count("recovery") == 1
    assert verify(tmp_path / "ledger").is_sound


def test_a_crash_before_the_first_line_leaves_nothing_wrong(tmp_path: Path) -> None:
    asyncio.run(a_closed_ledger(tmp_path))
    wal = tmp_path / "ledger" / "wal"
    for name, content in (("c_1", None), ("c_2", b""), ("c_3", b'{"v":1,"ki')):
        (wal / name).mkdir()
        if content is not None:
            (wal / name / f"{0:012d}.jsonl").write_bytes(content)
    assert verify(tmp_path / "ledger").is_sound
    asyncio.run(a_closed_ledger(tmp_path))
    assert not any((wal / name).exists() for name in ("c_1", "c_2", "c_3"))
    assert verify(tmp_path / "ledger").is_sound


def come_and_go(wal: Path, begun: Event) -> None:
    """Make chains without a line and take them away, again and again."""
    for turn in itertools.count():
        begun.set()
        folders = [wal / f"c_{50 * turn + number}" for number in range(50)]
        for folder in folders:
            folder.mkdir()
            (folder / f"{0:012d}.jsonl").touch()
        for folder in folders:
            (folder / f"{0:012d}.jsonl").unlink()
            folder.rmdir()


def test_a_ledger_can_be_verified_while_a_start_takes_empty_chains_away(tmp_path: Path) -> None:
    asyncio.run(a_closed_ledger(tmp_path))
    wal = tmp_path / "ledger" / "wal"
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.Event()
    other = spawn.Process(target=come_and_go, args=(wal, begun))
    other.start()
    try:
        assert begun.wait(60)
        for _ in range(100):
            assert verify(tmp_path / "ledger").is_sound
        assert other.is_alive()
    finally:
        other.kill()
        other.join()


@pytest.mark.parametrize("name", ["", "two words", "a+b", "line\nfeed", "x" * 65])
def test_refuses_a_deployment_name_that_a_note_cannot_hold(name: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerUnwritable, match="deployment"):
        Ledger.open(tmp_path / "ledger", keys_dir=tmp_path / "keys", deployment=name)


def test_private_files_are_their_owners_alone(tmp_path: Path) -> None:
    asyncio.run(a_closed_ledger(tmp_path))
    for folder in ("keys", "ledger/wal", "ledger/tlog"):
        for path in (tmp_path / folder).rglob("*"):
            assert os.stat(path).st_mode & 0o077 == 0, path


@pytest.mark.parametrize("text", ["", "a+b+c", "name+00000000+AQ=="], ids=["none", "no", "short"])
def test_refuses_what_is_no_verifier_key(text: str) -> None:
    with pytest.raises(BadNote):
        read_verifier_key(text)


def test_refuses_what_is_no_note() -> None:
    for note in (b"", b"text\n", b"text\n\n\xff", "text\n\n— name !!\n".encode()):
        with pytest.raises(BadNote):
            signed_text(note, "name", bytes(32))
