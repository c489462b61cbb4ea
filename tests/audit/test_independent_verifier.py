"""Two verifiers that share no code say the same of ledgers, sound, changed and of old versions."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audit.verify import verify
from tests.audit.independent_verifier import Check
from tests.audit.test_tampering import pristine as pristine

GOLDEN = sorted((Path(__file__).parent / "golden").iterdir())


def agrees(ledger: Path) -> bool:
    """What both say."""
    ours = verify(ledger).is_sound
    assert (Check(ledger).run() == []) is ours
    return ours


def evidence(ledger: Path) -> list[Path]:
    return sorted(
        path
        for part in ("wal", "tlog/heads", "keys")
        for path in (ledger / part).rglob("*")
        if path.is_file() and path.name != "sealed"
    )


def test_shares_no_code_with_the_ledger() -> None:
    text = Path(sys.modules[Check.__module__].__file__ or "").read_text()
    assert "import audit" not in text
    assert "from audit" not in text


def test_both_find_the_same_ledgers_sound(pristine: Path) -> None:
    assert agrees(pristine)
    program = str(sys.modules[Check.__module__].__file__)
    run = [sys.executable, "-I", program, str(pristine)]
    assert subprocess.run(run, capture_output=True, text=True).stdout == "sound\n"


def test_both_miss_no_missing_file(pristine: Path, tmp_path: Path) -> None:
    ledger = Path(shutil.copytree(pristine, tmp_path / "copy"))
    for path in evidence(ledger):
        data = path.read_bytes()
        path.unlink()
        assert not agrees(ledger), path
        path.write_bytes(data)
    assert agrees(ledger)


def test_both_miss_no_change_of_a_byte(pristine: Path, tmp_path: Path) -> None:
    ledger = Path(shutil.copytree(pristine, tmp_path / "copy"))
    dice = random.Random(7)  # noqa: S311  # a seeded choice of places, no secret
    for path in evidence(ledger):
        data = path.read_bytes()
        for _ in range(4):
            at = dice.randrange(len(data))
            path.write_bytes(
                data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]
            )
            assert not agrees(ledger), (path, at)
        path.write_bytes(data)


def test_both_miss_no_changed_line(pristine: Path, tmp_path: Path) -> None:
    ledger = Path(shutil.copytree(pristine, tmp_path / "copy"))
    for path in sorted((ledger / "wal").rglob("*.jsonl")):
        data = path.read_bytes()
        lines = data.splitlines(keepends=True)
        for at in range(len(lines)):
            for changed in (
                [*lines[:at], *lines[at + 1 :]],
                [*lines[: at + 1], *lines[at:]],
                lines[:at],
                [*lines[:at], lines[at][:-9]],
            ):
                path.write_bytes(b"".join(changed))
                assert not agrees(ledger), (path, at)
        path.write_bytes(data)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_a_ledger_of_each_version_is_still_read(golden: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(golden, tmp_path)
    ledger = tmp_path / "ledger"
    assert agrees(ledger)
    report = verify(ledger)
    assert (report.num_chains, report.open_intents, report.num_unsealed) == (3, 0, 0)
