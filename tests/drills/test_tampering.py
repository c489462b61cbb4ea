"""The tamper drill: random changes to a large ledger, by somebody who knows the format, are found.

20 changes to a ledger of 2,000 records by default, as written, packed, pruned and partly on hold;
``RINGFENCE_DRILL_TAMPERING=full`` for 1,000 changes to each of 20,000 records.
(`tests/audit/test_tampering.py` is exhaustive on a small one.)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.chain import digest, read_line
from audit.holds import set_hold
from audit.ledger import Ledger
from audit.merkle import leaf_hash
from audit.packing import pack_ledger
from audit.prune import prune
from audit.replay import WAL
from audit.retention import Hold
from audit.segments import PACKED, PRUNED, all_segments, pack, read_segment
from audit.verify import verify
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome
from tests.audit.test_packing import lines_in, small_segments
from tests.audit.test_prune import new_id, next_second

IS_FULL = os.environ.get("RINGFENCE_DRILL_TAMPERING") == "full"
NUM_CHANGES, NUM_RECORDS = (1000, 20_000) if IS_FULL else (20, 2_000)
NUM_CHAINS = 4

Change = Callable[[random.Random, Path], None]


async def _write(folder: Path) -> None:
    for number in range(NUM_CHAINS):
        if number == NUM_CHAINS // 2:
            next_second()  # a hold can tell the halves apart, however fast the disk
        ledger = Ledger.open(folder / "ledger", keys_dir=folder / "keys", seal_every_s=0.02)
        for _ in range(NUM_RECORDS // NUM_CHAINS // 500):
            permits = await asyncio.gather(
                *(ledger.intent(an_intent(new_id()), b"body", ORIGIN) for _ in range(250))
            )
            await asyncio.gather(*(ledger.outcome(an_outcome(permit)) for permit in permits))
        await ledger.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    with small_segments(200_000):
        asyncio.run(_write(folder))
    assert verify(folder / "ledger").is_sound
    return folder


@pytest.fixture(scope="module", params=["plain", "packed", "pruned", "held"])
def ledger(
    large: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """As written; packed; with a half of it removed; with some of that on hold."""
    form = str(request.param)
    folder = tmp_path_factory.mktemp(form)
    shutil.copytree(large, folder, dirs_exist_ok=True)
    ledger, keys = folder / "ledger", folder / "keys"
    if form == "packed":
        assert pack_ledger(ledger).num_segments >= NUM_CHAINS
    if form in ("pruned", "held"):
        cut = next_second()
        with small_segments(200_000):
            asyncio.run(_write(folder))
        pack_ledger(ledger, min_bytes=100_000)
        if form == "held":
            times = [segment_times(ledger)[at][:19] for at in (0, NUM_CHAINS // 2)]
            set_hold(ledger, keys, Hold("case-17", "", times[1], ""), {"by": "Jane Doe"})
        done = prune(ledger, keys, 0, "Jane Doe", now=cut)
        assert done.num_records > NUM_RECORDS // 4
        assert bool(done.num_held) is (form == "held")
    assert verify(ledger).is_sound
    return ledger


def segment_times(ledger: Path) -> list[str]:
    """The time of the first record of each chain."""
    firsts = [segment for segment in all_segments(ledger / WAL) if segment.stem == f"{0:012d}"]
    return [str(read_line(read_segment(one)[1].split(b"\n")[0])["time"]) for one in firsts]


def _segment(dice: random.Random, ledger: Path) -> tuple[Path, list[bytes]]:
    """Any segment of two lines or more, and its lines."""
    lines: list[bytes] = []
    while len(lines) < 2:
        segment = dice.choice(all_segments(ledger / WAL))
        lines = read_segment(segment)[1].splitlines(keepends=True)
    return segment.path, lines


def _write_back(path: Path, lines: list[bytes]) -> None:
    data = b"".join(lines)
    path.write_bytes(pack(data) if path.name.endswith(PACKED) else data)


def _head(dice: random.Random, ledger: Path) -> Path:
    return dice.choice(sorted((ledger / "tlog" / "heads").rglob("[0-9]" * 9)))


def flip_a_bit(dice: random.Random, ledger: Path) -> None:
    path = dice.choice([_segment(dice, ledger)[0], _head(dice, ledger)])
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def delete_a_record(dice: random.Random, ledger: Path) -> None:
    path, lines = _segment(dice, ledger)
    del lines[dice.randrange(len(lines))]
    _write_back(path, lines)


def swap_two_records(dice: random.Random, ledger: Path) -> None:
    path, lines = _segment(dice, ledger)
    one, two = dice.sample(range(len(lines)), 2)
    lines[one], lines[two] = lines[two], lines[one]
    _write_back(path, lines)


def insert_a_record(dice: random.Random, ledger: Path) -> None:
    path, lines = _segment(dice, ledger)
    lines.insert(dice.randrange(len(lines) + 1), dice.choice(lines))
    _write_back(path, lines)


def cut_the_end(dice: random.Random, ledger: Path) -> None:
    path, lines = _segment(dice, ledger)
    _write_back(path, lines[: dice.randrange(len(lines))])


def remove_a_chain(dice: random.Random, ledger: Path) -> None:
    shutil.rmtree(_segment(dice, ledger)[0].parent)


def remove_a_checkpoint(dice: random.Random, ledger: Path) -> None:
    _head(dice, ledger).unlink()


def rewrite_a_record_and_all_after_it(dice: random.Random, ledger: Path) -> None:
    """The strongest without the key: the changed line adds up, and so does the chain behind it."""
    path, lines = _segment(dice, ledger)
    while path.name.endswith(PRUNED):
        path, lines = _segment(dice, ledger)
    at = dice.randrange(1, len(lines))
    changed = [line.removesuffix(b"\n") for line in lines]
    members = read_line(changed[at])
    members["time"] = "2026-01-01T00:00:00.000000Z"
    for number in range(at, len(changed)):
        members = members if number == at else read_line(changed[number])
        members["prev"] = digest(changed[number - 1])
        del members["sum"]
        body = json.dumps(members, separators=(",", ":")).encode()[:-1]
        total = hashlib.sha256(body).hexdigest()[:16].encode()
        changed[number] = body + b',"sum":"' + total + b'"}'
        read_line(changed[number])
    _write_back(path, [line + b"\n" for line in changed])


def forge_a_removal(dice: random.Random, ledger: Path) -> None:
    """The hashes are right, so the tree holds; but nobody with the key said that they may go."""
    segments = [segment for segment in all_segments(ledger / WAL) if not segment.is_pruned]
    segment = dice.choice(segments)
    lines = read_segment(segment)[1].split(b"\n")[:-1]
    hashes = b"".join(leaf_hash(line).hex().encode() + b"\n" for line in lines)
    segment.as_form(PRUNED).path.write_bytes(hashes)
    segment.path.unlink()


def strip_what_a_removal_left(dice: random.Random, ledger: Path) -> None:
    """Where retention was at work: the rest of a pruned segment; else a whole segment."""
    segment = dice.choice(all_segments(ledger / WAL))
    lines = read_segment(segment)[1].split(b"\n")[:-1]
    kept = [at for at, line in enumerate(lines) if segment.is_pruned and line.startswith(b"{")]
    if not kept:
        return segment.path.unlink()
    lines[kept[0]] = leaf_hash(lines[kept[0]]).hex().encode()
    return _write_back(segment.path, [line + b"\n" for line in lines])


CHANGES: tuple[Change, ...] = (
    flip_a_bit,
    delete_a_record,
    swap_two_records,
    insert_a_record,
    cut_the_end,
    remove_a_chain,
    remove_a_checkpoint,
    rewrite_a_record_and_all_after_it,
    forge_a_removal,
    strip_what_a_removal_left,
)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_change_to_a_large_ledger_is_found(ledger: Path, tmp_path: Path) -> None:
    dice = random.Random(20261124)  # noqa: S311  # a seeded choice of changes, no secret
    done = Counter[str]()
    copy = tmp_path / "copy"
    for number in range(NUM_CHANGES):
        change = CHANGES[number % len(CHANGES)]
        shutil.copytree(ledger, copy)
        change(dice, copy)
        is_found = not verify(copy).is_sound
        # A bit of a packed file that no reader looks at, padding as it is, changes no record.
        assert is_found or (change is flip_a_bit and lines_in(copy) == lines_in(ledger)), (
            *(number, change.__name__),
        )
        done[change.__name__] += 1
        shutil.rmtree(copy)
    print(f"\n{NUM_CHANGES} changes to {NUM_RECORDS} records, all found: {dict(done)}")
    assert verify(ledger).is_sound
