"""Captured bodies: the auditor alone reads them, one is erased without the others, none is lost."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import secrets
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit import vault as vault_module
from audit.acts import UnfitWord, UnknownRecord
from audit.capture_keys import (
    BadCaptureKey,
    load_private_key,
    load_public_key,
    make_capture_key,
)
from audit.captures import erase_body, open_body, remove_orphans
from audit.chain import read_line
from audit.cli import app
from audit.errors import AuditError, LedgerUnwritable
from audit.ledger import Ledger
from audit.stores.files import FileStore
from audit.vault import RETRY_S, VAULT, CaptureUnreadable, Vault, destroy_capture, vault_refs
from audit.verify import verify
from tests.audit.test_ledger import ORIGIN, abandon, an_intent, lines_of
from tests.harness import SCHEMA

CANARY = b"canary-7f3e1c-Margarete-Oberhuber"


@dataclass
class Room:
    """A folder with a ledger that captures, and an auditor's keys elsewhere."""

    folder: Path

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    @property
    def vault(self) -> Path:
        return self.ledger / VAULT

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def key(self) -> Path:
        return self.folder / "auditor" / "capture.key"

    def files(self) -> list[Path]:
        return sorted(path for path in self.vault.glob("*/*"))

    def open(self) -> Ledger:
        """A ledger that captures."""
        public = load_public_key(self.folder / "proxy.pub")
        return Ledger.open_store(FileStore(self.ledger, self.keys), vault=Vault(self.vault, public))

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--ledger", str(self.ledger)])


@pytest.fixture
def room(tmp_path: Path) -> Room:
    public = make_capture_key(tmp_path / "auditor")
    (tmp_path / "proxy.pub").write_bytes(public.read_bytes())
    return Room(tmp_path)


def sent(room: Room, *bodies: bytes) -> list[str]:
    """Record an intent for each of ``bodies``; gives their ids."""

    async def run() -> list[str]:
        ledger = room.open()
        permits = [
            await ledger.intent(an_intent(f"dec_{secrets.token_hex(14)}"), body, ORIGIN)
            for body in bodies
        ]
        await ledger.close()
        return [permit.intent_id for permit in permits]

    return asyncio.run(run())


def test_the_auditor_reads_exactly_the_bytes_that_left(room: Room) -> None:
    bodies = [b"", b'{"a":1}', bytes(range(256)) * 5000]
    ids = sent(room, *bodies)
    assert [open_body(room.ledger, id_, room.key) for id_ in ids] == bodies
    done = room.run("open", ids[2], "--key", str(room.key))
    assert (done.exit_code, done.stdout_bytes) == (0, bodies[2])
    report = verify(room.ledger)
    assert report.is_sound
    assert (report.num_captured, report.num_erased, report.num_orphans) == (3, 0, 0)
    for line in lines_of(room.folder):
        SCHEMA.validate(read_line(line))


def test_an_opened_body_goes_into_a_file_of_its_owner_alone(room: Room, tmp_path: Path) -> None:
    (id_,) = sent(room, CANARY)
    out = tmp_path / "body"
    assert room.run("open", id_, "--key", str(room.key), "-o", str(out)).exit_code == 0
    assert (out.read_bytes(), stat.S_IMODE(out.stat().st_mode)) == (CANARY, 0o600)


def test_a_terminal_gets_no_body_unless_it_is_asked_for(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = sent(room, CANARY)
    monkeypatch.setattr("audit.vault_cli.is_terminal", lambda: True)
    done = room.run("open", id_, "--key", str(room.key))
    assert (done.exit_code, CANARY.decode() in done.output) == (2, False)
    done = room.run("open", id_, "--key", str(room.key), "--show")
    assert done.stdout_bytes == CANARY


def test_without_the_private_key_nothing_is_readable(room: Room) -> None:
    bodies = [CANARY + str(number).encode() for number in range(20)]
    sent(room, *bodies, bodies[0])
    stored = [path.read_bytes() for path in (room.ledger).rglob("*") if path.is_file()]
    assert not any(CANARY in data for data in stored)
    assert len(room.files()) == 42
    assert len({path.read_bytes() for path in room.files()}) == 42  # the same body twice, too
    assert {stat.S_IMODE(path.stat().st_mode) for path in room.files()} == {0o600}


def test_another_key_opens_nothing(room: Room, tmp_path: Path) -> None:
    (id_,) = sent(room, CANARY)
    make_capture_key(tmp_path / "stranger")
    with pytest.raises(CaptureUnreadable, match="does not open"):
        open_body(room.ledger, id_, tmp_path / "stranger" / "capture.key")
    with pytest.raises(BadCaptureKey):
        open_body(room.ledger, id_, tmp_path / "proxy.pub")


def is_found_changed_swapped_or_missing(
    room: Room, suffix: str, what: str, read: Callable[[], bytes]
) -> None:
    """Whatever becomes of the first of two files, it is named as ``what`` and not read."""
    one, two = (path for path in room.files() if path.suffix == suffix)
    kept = one.read_bytes()
    for changed in (kept[:-1] + bytes([kept[-1] ^ 1]), kept[:-1], b"", two.read_bytes()):
        one.write_bytes(changed)
        (fault,) = verify(room.ledger).faults
        assert f"{what} is not the one that was committed to" in fault.problem
        with pytest.raises(CaptureUnreadable, match="changed"):
            read()
    one.unlink()
    (fault,) = verify(room.ledger).faults
    assert f"{what} is gone" in fault.problem
    with pytest.raises(CaptureUnreadable):
        read()
    one.write_bytes(kept)


@pytest.mark.parametrize("suffix", [".body", ".key"])
def test_a_changed_or_swapped_or_missing_file_is_found(suffix: str, room: Room) -> None:
    ids = sent(room, b"one", b"two")
    is_found_changed_swapped_or_missing(
        room, suffix, "body or its key", lambda: open_body(room.ledger, ids[0], room.key)
    )
    assert verify(room.ledger).is_sound  # with the file as it was


def test_erasing_one_body_leaves_the_others_and_a_sound_ledger(room: Room) -> None:
    ids = sent(room, b"one", CANARY, b"three")
    where = ("--keys", str(room.keys))
    held = {path: os.open(path, os.O_RDONLY) for path in room.files() if path.suffix == ".key"}
    done = room.run("erase", ids[1], "--reason", "gdpr_art_17", "--by", "jane", *where)
    assert done.exit_code == 0, done.output
    gone = [fd for path, fd in held.items() if not path.exists()]
    assert [set(os.pread(fd, 4096, 0)) for fd in gone] == [{0}]  # overwritten before it was removed
    for fd in held.values():
        os.close(fd)
    assert len(room.files()) == 4
    report = verify(room.ledger)
    assert report.is_sound
    assert (report.num_captured, report.num_erased) == (3, 1)
    assert report.unfinished_erasures == []
    assert "3 captured bodies, 1 of them erased" in CliRunner().invoke(
        app, ["verify", str(room.ledger)]
    ).output.replace("\n", " ")
    with pytest.raises(CaptureUnreadable, match="erased"):
        open_body(room.ledger, ids[1], room.key)
    assert open_body(room.ledger, ids[0], room.key) == b"one"
    (record,) = [r for r in map(read_line, lines_of(room.folder)) if r["kind"] == "erasure"]
    SCHEMA.validate(record)
    assert record["detail"]["of"] == ids[1]  # type: ignore[index]
    assert room.run("erase", ids[1], "--reason", "again", "--by", "jane", *where).exit_code == 0
    assert verify(room.ledger).num_erased == 1


def test_nothing_is_destroyed_that_is_not_on_the_record(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = sent(room, CANARY)

    def refuse(*_: object) -> None:
        raise LedgerUnwritable("the disk is full")

    monkeypatch.setattr("audit.captures.record_acts", refuse)
    with pytest.raises(LedgerUnwritable):
        erase_body(room.ledger, room.keys, id_, "gdpr_art_17", "jane")
    assert open_body(room.ledger, id_, room.key) == CANARY


def test_an_erasure_that_a_crash_cut_short_is_told_and_done_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = sent(room, CANARY)

    def crash(*_: object) -> None:
        raise OSError(errno.EIO, "crash")

    with monkeypatch.context() as patch:
        patch.setattr("audit.captures.destroy_capture", crash)
        with pytest.raises(OSError, match="crash"):
            erase_body(room.ledger, room.keys, id_, "gdpr_art_17", "jane")
    report = verify(room.ledger)
    assert (report.is_sound, len(report.unfinished_erasures)) == (True, 1)
    with pytest.raises(CaptureUnreadable, match="erased"):
        open_body(room.ledger, id_, room.key)
    erase_body(room.ledger, room.keys, id_, "gdpr_art_17", "jane")
    assert (verify(room.ledger).unfinished_erasures, room.files()) == ([], [])


def test_refuses_an_unknown_intent_and_words_that_are_no_codes(room: Room) -> None:
    (id_,) = sent(room, CANARY)
    with pytest.raises(UnknownRecord):
        erase_body(room.ledger, room.keys, "int_" + "0" * 28, "gdpr_art_17", "jane")
    with pytest.raises(UnknownRecord):
        open_body(room.ledger, "int_" + "0" * 28, room.key)
    with pytest.raises(UnfitWord):
        erase_body(room.ledger, room.keys, id_, "Margarete asked for it", "jane")
    assert open_body(room.ledger, id_, room.key) == CANARY


async def test_a_capture_is_durable_before_its_intent_and_a_crash_between_leaves_an_orphan(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = room.open()
    seen: list[int] = []

    async def die(*_: object) -> None:
        seen.append(len(room.files()))
        raise LedgerUnwritable("killed")

    with monkeypatch.context() as patch:
        patch.setattr("audit.ledger._durable", die)
        with pytest.raises(LedgerUnwritable):
            await ledger.intent(an_intent(), CANARY, ORIGIN)
    assert seen == [2]
    abandon(ledger)
    again = room.open()
    permit = await again.intent(an_intent(), b"kept", ORIGIN)
    await again.close()
    report = await asyncio.to_thread(verify, room.ledger)
    assert (report.is_sound, report.num_captured, report.num_orphans) == (True, 1, 1)
    assert remove_orphans(room.ledger) == 0  # younger than an hour: its intent may be on the way
    (room.files()[0].parent / ".cap_half.body.0123").write_bytes(b"a draft that a crash left")
    assert remove_orphans(room.ledger, -1) == 2
    assert verify(room.ledger).num_orphans == 0
    assert open_body(room.ledger, permit.intent_id, room.key) == b"kept"


@pytest.fixture
def tiny_vault(room: Room) -> Iterator[Path]:
    """A file system of its own, of 64 KiB, for the vault."""
    room.vault.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(room.vault)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield room.vault
    subprocess.run(["umount", "-l", str(room.vault)], check=True)


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_no_permit_where_the_body_cannot_be_kept_and_it_comes_back_by_itself(
    fault: str, room: Room, tiny_vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        ledger = room.open()
        await ledger.intent(an_intent(), b"first", ORIGIN)
        before = len(lines_of(room.folder))
        if fault == "full":
            body, said = b"x" * 70_000, "No space left"
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(tiny_vault)], check=True)
            body, said = CANARY, "Read-only"
        assert ledger.writable
        with pytest.raises(LedgerUnwritable, match=f"capture cannot be written: {said}"):
            await ledger.intent(an_intent(), body, ORIGIN)
        assert not ledger.writable
        assert len(lines_of(room.folder)) == before  # no intent, so no permit
        if fault == "read-only":
            subprocess.run(["mount", "-o", "remount,rw", str(tiny_vault)], check=True)
        monkeypatch.setattr("audit.vault.RETRY_S", 0.0)
        assert ledger.writable
        await ledger.intent(an_intent(), b"again", ORIGIN)
        await ledger.close()

    asyncio.run(run())
    assert verify(room.ledger).is_sound
    assert verify(room.ledger).num_orphans == 0  # nothing is left of what failed
    assert len(room.files()) == 4


def test_says_for_a_while_that_it_failed(room: Room) -> None:
    now = [0.0]
    public = load_public_key(room.folder / "proxy.pub")
    vault = Vault(Path("/dev/null/vault"), public, lambda: now[0])
    assert vault.is_healthy
    with pytest.raises(AuditError):
        vault.keep("cap_" + "0" * 28, CANARY)
    assert not vault.is_healthy
    now[0] = RETRY_S
    assert vault.is_healthy


def test_a_record_cannot_name_a_file_outside_of_the_vault(room: Room) -> None:
    for ref in ("../../keys/x", "cap_../../../etc", "cap_" + "0" * 27, ""):
        with pytest.raises(CaptureUnreadable):
            destroy_capture(room.vault, ref)
        with pytest.raises(CaptureUnreadable):
            vault_module.body_path(room.vault, ref)
    assert vault_refs(room.ledger) == set()


def test_the_proxy_takes_no_private_key(room: Room, tmp_path: Path) -> None:
    for path in (room.key, room.key.with_name("capture.pub"), tmp_path / "missing"):
        with pytest.raises(BadCaptureKey):
            load_public_key(path)
    for text in ("", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        (tmp_path / "bad.pub").write_text(text)
        with pytest.raises(BadCaptureKey, match="no public key"):
            load_public_key(tmp_path / "bad.pub")


def test_keys_are_made_once_and_the_private_one_is_its_owners_alone(tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["capture-key", "-o", str(tmp_path / "a")])
    assert made.exit_code == 0
    key = tmp_path / "a" / "capture.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    kept = key.read_bytes()
    assert CliRunner().invoke(app, ["capture-key", "-o", str(tmp_path / "a")]).exit_code == 1
    assert key.read_bytes() == kept
    load_private_key(key)
    assert "PRIVATE" not in made.output


def test_a_ledger_without_capture_says_nothing_of_a_vault(room: Room) -> None:
    async def run() -> None:
        ledger = Ledger.open(room.ledger, keys_dir=room.keys)
        await ledger.intent(an_intent(), CANARY, ORIGIN)
        await ledger.close()

    asyncio.run(run())
    assert not room.vault.exists()
    assert not any("vault" in json.loads(line) for line in lines_of(room.folder))
