"""The tamper drill: whatever is changed in a sealed ledger is found; an untouched one is sound."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import head_path, newest_index, read_head, text_of
from audit.note import sign
from audit.verify import verify
from tests.audit.test_ledger import ORIGIN, abandon, an_intent, an_outcome, open_ledger


async def _fill(folder: Path, num_intents: int, *, crash: bool) -> None:
    ledger = open_ledger(folder)
    for number in range(num_intents):
        permit = await ledger.intent(an_intent(), b"body", ORIGIN)
        if number % 2:
            await ledger.outcome(an_outcome(permit))
        if number % 3 == 0:
            await asyncio.to_thread(ledger._seal_thread.seal_once)
    if crash:
        abandon(ledger)
    else:
        await ledger.close()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed ledger of three chains, one of which a crash left behind."""
    folder = tmp_path_factory.mktemp("pristine")
    asyncio.run(_fill(folder, 7, crash=False))
    asyncio.run(_fill(folder, 7, crash=True))
    asyncio.run(_fill(folder, 7, crash=False))
    return folder / "ledger"


@pytest.fixture
def ledger(pristine: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


def segments(ledger: Path) -> list[Path]:
    return sorted((ledger / "wal").rglob("*.jsonl"))


def heads(ledger: Path) -> list[Path]:
    return [head_path(ledger, index) for index in range(newest_index(ledger) + 1)]


def test_an_untouched_ledger_is_sound(pristine: Path) -> None:
    report = verify(pristine)
    assert report.faults == []
    assert (report.num_chains, report.num_unsealed, report.open_intents) == (3, 0, 0)
    assert report.exposed_s == 0.0
    assert verify(pristine, key=report.key).is_sound


def _each_line(change: Callable[[list[bytes], int], list[bytes]], ledger: Path) -> Iterator[str]:
    for path in segments(ledger):
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        for at in range(len(lines)):
            path.write_bytes(b"".join(change(list(lines), at)))
            if path.read_bytes() != whole:
                yield f"{path.name} {at}"
        path.write_bytes(whole)


def _swapped(lines: list[bytes], at: int) -> list[bytes]:
    other = (at + 1) % len(lines)
    lines[at], lines[other] = lines[other], lines[at]
    return lines


@pytest.mark.parametrize(
    "change",
    [
        lambda lines, at: lines[:at] + lines[at + 1 :],
        lambda lines, at: [*lines[:at], lines[at], *lines[at:]],
        _swapped,
        lambda lines, at: lines[:at],
        lambda lines, at: [*lines[:at], b'{"v":1}\n', *lines[at:]],
        lambda lines, at: [*lines[:at], lines[at][:-1]],
        lambda lines, at: [*lines[:at], lines[at][: len(lines[at]) // 2]],
    ],
    ids=["removed", "doubled", "swapped", "cut", "inserted", "cut by a byte", "cut in two"],
)
def test_finds_every_changed_line(
    change: Callable[[list[bytes], int], list[bytes]], ledger: Path
) -> None:
    tried = 0
    for where in _each_line(change, ledger):
        tried += 1
        assert not verify(ledger).is_sound, where
    assert tried >= 30
    assert verify(ledger).is_sound


def test_finds_every_missing_file_of_evidence(ledger: Path) -> None:
    evidence = [*segments(ledger), *heads(ledger), *(ledger / "keys").iterdir()]
    for path in evidence:
        data = path.read_bytes()
        path.unlink()
        assert not verify(ledger).is_sound, path
        path.write_bytes(data)
    assert verify(ledger).is_sound


def test_finds_a_missing_chain_and_missing_checkpoints(ledger: Path, tmp_path: Path) -> None:
    for folder in [*(ledger / "wal").iterdir(), ledger / "tlog", ledger / "keys"]:
        shutil.move(folder, tmp_path / "aside")
        assert not verify(ledger).is_sound, folder
        shutil.move(tmp_path / "aside", folder)
    assert verify(ledger).is_sound


@pytest.mark.slow
def test_finds_every_changed_byte_of_a_checkpoint_and_of_a_key(ledger: Path) -> None:
    for path in [heads(ledger)[0], heads(ledger)[-1], *(ledger / "keys").iterdir()]:
        whole = path.read_bytes()
        for at in range(len(whole)):
            changed = bytearray(whole)
            changed[at] ^= 1 << (at % 8)
            path.write_bytes(changed)
            assert not verify(ledger).is_sound, (path, at)
        path.write_bytes(whole)
    assert verify(ledger).is_sound


def test_finds_swapped_and_doubled_checkpoints(ledger: Path) -> None:
    first, second, *_ = heads(ledger)
    one, two = first.read_bytes(), second.read_bytes()
    for left, right in ((two, one), (one, one), (two, two)):
        first.write_bytes(left)
        second.write_bytes(right)
        assert not verify(ledger).is_sound


def test_finds_an_end_cut_off_together_with_its_checkpoint_unless_the_whole_was_put_back(
    ledger: Path,
) -> None:
    """The end of a closed chain says of its checkpoints which must be there."""
    newest = heads(ledger)[-1]
    outside = newest.read_bytes()
    newest.unlink()
    assert not verify(ledger).is_sound
    last_chain = segments(ledger)[-1]
    lines = last_chain.read_bytes().splitlines(keepends=True)
    last_chain.write_bytes(b"".join(lines[:-1]))
    # An earlier state as it really was: only a checkpoint kept elsewhere tells.
    assert not verify(ledger, outside_head=outside).is_sound


def test_finds_a_checkpoint_signed_with_another_key(ledger: Path) -> None:
    newest = heads(ledger)[-1]
    head = read_head(text_of(newest.read_bytes()))
    newest.write_bytes(sign(head.text(), head.origin, Ed25519PrivateKey.generate()))
    assert any("signature" in f.problem or "key" in f.problem for f in verify(ledger).faults)


def test_finds_a_ledger_rewritten_with_new_keys_when_the_key_was_kept(
    ledger: Path, tmp_path: Path
) -> None:
    kept = verify(ledger).key
    asyncio.run(_fill(tmp_path / "forged", 3, crash=False))
    forged = tmp_path / "forged" / "ledger"
    assert verify(forged).is_sound
    assert not verify(forged, key=kept).is_sound


@pytest.mark.slow
def test_finds_a_thousand_random_changes(ledger: Path) -> None:
    dice = random.Random(20261124)  # noqa: S311  # a seeded choice of changes, no secret
    files = [*segments(ledger), *heads(ledger)]
    for _ in range(1000):
        path = dice.choice(files)
        whole = path.read_bytes()
        changed = bytearray(whole)
        at = dice.randrange(len(changed))
        match dice.randrange(3):
            case 0:
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                del changed[at : at + dice.randrange(1, 400)]
            case _:
                changed[at:at] = dice.randbytes(dice.randrange(1, 40))
        path.write_bytes(changed)
        assert not verify(ledger).is_sound, (path, at)
        path.write_bytes(whole)
    assert verify(ledger).is_sound
