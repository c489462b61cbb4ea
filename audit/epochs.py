"""The signing keys: one Ed25519 key a day, each introduced by the one before, then erased.

Who breaks in today finds today's key alone and cannot sign yesterday's checkpoints again. Private
keys live outside the ledger; the public ones stand in its ``keys`` folder as signed notes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Head, read_head, text_of
from audit.disk import make_folder, publish, replace_file
from audit.errors import LedgerUnwritable
from audit.note import BadNote, public_bytes, read_verifier_key, sign, signed_text, verifier_key

KEYS: Final = "keys"
_HEADING: Final = "ringfence-epoch/v1"
_SUFFIX: Final = ".note"


@dataclass(frozen=True, slots=True)
class Epoch:
    """A public key and the first checkpoint that it signs."""

    number: int
    public: bytes
    first_head: int
    day: str
    note_digest: str


@dataclass(frozen=True, slots=True)
class Signer:
    """The key of the present epoch."""

    epoch: Epoch
    key: Ed25519PrivateKey


def read_epochs(ledger: Path, name: str) -> list[Epoch]:
    """Every epoch of a ledger, each one's introduction checked with the key before.

    Raises:
        BadNote: an introduction is missing, or not signed by the key before it.
        OSError: it cannot be read.
    """
    return check_epochs(epoch_notes(ledger), name)


def epoch_notes(ledger: Path) -> list[bytes]:
    """The notes that introduce the keys of a ledger, unchecked, in order.

    Raises:
        BadNote: one is missing between others.
        OSError: it cannot be read.
    """
    paths = sorted((ledger / KEYS).glob(f"*{_SUFFIX}"))
    for number, path in enumerate(paths):
        if path.name != f"{number:06d}{_SUFFIX}":
            raise BadNote(f"the key of epoch {number} is missing")
    return [path.read_bytes() for path in paths]


def check_epochs(notes: Iterable[bytes], name: str) -> list[Epoch]:
    """The epochs that ``notes`` introduce, each checked with the key before.

    Raises:
        BadNote: an introduction is not signed by the key before it.
    """
    epochs: list[Epoch] = []
    for note in notes:
        epochs.append(_read_epoch(note, name, epochs[-1] if epochs else None))
    return epochs


def signed_head(note: bytes, index: int, epochs: Sequence[Epoch], name: str) -> Head:
    """Checkpoint ``index`` of the ledger ``name``, signed by the key that was in force at it.

    Raises:
        BadNote: it is not.
    """
    head = read_head(text_of(note))
    epoch = next((one for one in reversed(epochs) if one.first_head <= index), None)
    if epoch is None or head.epoch != epoch.number or head.origin != name:
        raise BadNote("signed with a key that was not in force")
    if head.index != index:
        raise BadNote("it is another checkpoint than its name says")
    return read_head(signed_text(note, name, epoch.public))


def _read_epoch(note: bytes, name: str, before: Epoch | None) -> Epoch:
    number = before.number + 1 if before else 0
    lines = note.decode("utf-8", "replace").split("\n")
    if len(lines) < 6 or not lines[2].startswith("key "):
        raise BadNote(f"the key of epoch {number} is not introduced in the known form")
    key_name, public = read_verifier_key(lines[2].removeprefix("key "))
    text = signed_text(note, name, before.public if before else public)
    first, day = lines[3].removeprefix("first "), lines[4].removeprefix("day ")
    prev = before.note_digest if before else "0" * 64
    if (
        not first.isascii()
        or not first.isdigit()
        or text != _epoch_text(name, number, public, (int(first), day, prev))
        or key_name != name
        or (before is not None and int(first) < before.first_head)
    ):
        raise BadNote(f"the key of epoch {number} does not follow the one before")
    return Epoch(number, public, int(first), day, hashlib.sha256(note).hexdigest())


def _epoch_text(name: str, number: int, public: bytes, rest: tuple[int, str, str]) -> str:
    first, day, prev = rest
    return (
        f"{_HEADING} {name}\nepoch {number}\nkey {verifier_key(name, public)}\n"
        f"first {first}\nday {day}\nprev {prev}\n"
    )


def signer_for(ledger: Path, keys_dir: Path, name: str, now: tuple[str, int]) -> Signer:
    """The key to sign checkpoint ``now[1]`` with on day ``now[0]``; rotates at a new day.

    To be called under the ledger's lock.

    Raises:
        LedgerUnwritable: the private key of this ledger is missing, or its keys do not add up.
        OSError: a key cannot be written.
    """
    day, next_head = now
    try:
        epochs = read_epochs(ledger, name)
    except BadNote as error:
        raise LedgerUnwritable(f"the ledger's keys do not add up: {error}") from None
    if not epochs:
        return _introduce(ledger, keys_dir, name, (None, next_head, day))
    signer = Signer(epochs[-1], _load(keys_dir, epochs[-1]))
    _erase_before(keys_dir, signer.epoch.number)
    if day > signer.epoch.day:
        signer = _introduce(ledger, keys_dir, name, (signer, next_head, day))
        _erase_before(keys_dir, signer.epoch.number)
    return signer


def _introduce(
    ledger: Path, keys_dir: Path, name: str, what: tuple[Signer | None, int, str]
) -> Signer:
    before, first_head, day = what
    number = before.epoch.number + 1 if before else 0
    key = Ed25519PrivateKey.generate()
    make_folder(keys_dir)
    replace_file(_private_path(keys_dir, number), key.private_bytes_raw())
    public = public_bytes(key)
    prev = before.epoch.note_digest if before else "0" * 64
    text = _epoch_text(name, number, public, (first_head, day, prev))
    note = sign(text, name, before.key if before else key)
    publish(ledger / KEYS / f"{number:06d}{_SUFFIX}", note, mode=0o644)
    return Signer(Epoch(number, public, first_head, day, hashlib.sha256(note).hexdigest()), key)


def _load(keys_dir: Path, epoch: Epoch) -> Ed25519PrivateKey:
    key = None
    with contextlib.suppress(OSError, ValueError):
        raw = _private_path(keys_dir, epoch.number).read_bytes()
        key = Ed25519PrivateKey.from_private_bytes(raw)
    if key is None or public_bytes(key) != epoch.public:
        raise LedgerUnwritable(
            "the ledger's signing key is missing; restore it, or begin a new ledger folder"
        )
    return key


def _erase_before(keys_dir: Path, number: int) -> None:
    """Erase the private keys of past epochs."""
    for path in keys_dir.glob("seal-*.key"):
        if path.name < _private_path(keys_dir, number).name:
            path.unlink(missing_ok=True)


def _private_path(keys_dir: Path, number: int) -> Path:
    return keys_dir / f"seal-{number:06d}.key"
