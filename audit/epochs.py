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
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Head, read_head, text_of
from audit.errors import LedgerUnwritable
from audit.note import BadNote, public_bytes, read_verifier_key, sign, signed_text, verifier_key

if TYPE_CHECKING:
    from audit.stores.store import LedgerStore

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


def epoch_path(ledger: Path, number: int) -> Path:
    """Where the note stands that introduces the key of an epoch."""
    return ledger / KEYS / f"{number:06d}{_SUFFIX}"


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


def signer_for(store: LedgerStore, name: str, now: tuple[str, int]) -> Signer:
    """The key to sign checkpoint ``now[1]`` with on day ``now[0]``; rotates at a new day.

    To be called under the ledger's lock.

    Raises:
        LedgerUnwritable: the private key of this ledger is missing, or its keys do not add up.
        OSError: a key cannot be written.
    """
    day, next_head = now
    try:
        epochs = check_epochs(store.epoch_notes(), name)
    except BadNote as error:
        raise LedgerUnwritable(f"the ledger's keys do not add up: {error}") from None
    if not epochs:
        return _introduce(store, name, (None, next_head, day))
    signer = Signer(epochs[-1], _load(store, epochs[-1]))
    _erase_before(store, signer.epoch.number)
    if day > signer.epoch.day:
        signer = _introduce(store, name, (signer, next_head, day))
        _erase_before(store, signer.epoch.number)
    return signer


def present_signer(store: LedgerStore, name: str) -> Signer:
    """The key of the newest epoch as it is, for a signature that is no checkpoint.

    To be called under the ledger's lock.

    Raises:
        BadNote: the public keys do not add up, or there are none.
        LedgerUnwritable: the private key is missing.
        OSError: they cannot be read.
    """
    epochs = check_epochs(store.epoch_notes(), name)
    if not epochs:
        raise BadNote("the ledger has no public key")
    return Signer(epochs[-1], _load(store, epochs[-1]))


def _introduce(store: LedgerStore, name: str, what: tuple[Signer | None, int, str]) -> Signer:
    before, first_head, day = what
    number = before.epoch.number + 1 if before else 0
    key = Ed25519PrivateKey.generate()
    store.keys.put(_private_name(number), key.private_bytes_raw())
    public = public_bytes(key)
    prev = before.epoch.note_digest if before else "0" * 64
    text = _epoch_text(name, number, public, (first_head, day, prev))
    note = sign(text, name, before.key if before else key)
    store.publish_epoch(number, note)
    return Signer(Epoch(number, public, first_head, day, hashlib.sha256(note).hexdigest()), key)


def _load(store: LedgerStore, epoch: Epoch) -> Ed25519PrivateKey:
    key = None
    with contextlib.suppress(ValueError):
        raw = store.keys.load(_private_name(epoch.number)) or b""
        key = Ed25519PrivateKey.from_private_bytes(raw)
    if key is None or public_bytes(key) != epoch.public:
        raise LedgerUnwritable(
            "the ledger's signing key is missing from its folder of keys (--keys); restore it, "
            "or begin a new ledger folder"
        )
    return key


def _erase_before(store: LedgerStore, number: int) -> None:
    """Erase the private keys of past epochs."""
    store.keys.erase_before("seal-", _private_name(number))


def _private_name(number: int) -> str:
    return f"seal-{number:06d}.key"
