"""The vault: what left, encrypted so that an auditor alone can read it.

Each body has a data key of its own (AES-256-GCM). The data key is wrapped to the auditor's X25519
public key (HPKE, RFC 9180) in a file of its own: whoever destroys that file erases one body and no
other. An answer that is kept has a data key of its own too, at the head of its file, and is erased
with its body. The writing side holds no key that opens anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from audit.disk import disk_faults, publish, sync_folder
from audit.errors import AuditError

#: The vault's folder within the ledger's.
VAULT: Final = "vault"

#: The event that says that a body was erased.
ERASURE: Final = "erasure"

#: After a capture that failed, the ledger says for so long (seconds) that it cannot be written.
RETRY_S: Final = 5.0

_PURPOSE: Final = "ringfence-capture/v1"
_ANSWER_PURPOSE: Final = "ringfence-answer/v1"
_REF: Final = re.compile(r"cap_[0-9a-f]{28}")
_SALT_BYTES: Final = 32
_NONCE_BYTES: Final = 12
#: A wrapped data key: 32 bytes encapsulated, 32 of the key, 16 of its tag. Source: RFC 9180, 7.1.
_WRAPPED_BYTES: Final = 80
#: How data keys are wrapped.
SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class CaptureUnreadable(AuditError):
    """A captured body cannot be read: it was erased, was changed, or the key is another's."""

    code = "capture_unreadable"


@dataclass(frozen=True, slots=True)
class Captured:
    """What an intent says of its captured body.

    Attributes:
        ref: names the capture.
        body: ``sha256:…`` of the encrypted body's file, whose first 32 bytes are random.
        key: ``sha256:…`` of the wrapped key's file.
    """

    ref: str
    body: str
    key: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What an outcome says of the answer that was to be kept.

    Attributes:
        ref: names the capture, as the intent does.
        answer: ``sha256:…`` of the answer's file, which holds random bytes; None: it could not be
            kept, or its capture was erased before it came.
    """

    ref: str
    answer: str | None


class Vault:
    """Keeps bodies, and answers to them, in ``folder``, encrypted to ``public_key``."""

    def __init__(
        self,
        folder: Path,
        public_key: X25519PublicKey,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._public_key = public_key
        self._clock = clock
        self._failed_at: float | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether no capture failed within the last `RETRY_S` seconds."""
        return self._failed_at is None or self._clock() - self._failed_at >= RETRY_S

    def keep(self, ref: str, body: bytes) -> Captured:
        """Encrypt ``body`` and make it durable under ``ref``. It waits for the disk.

        Raises:
            LedgerUnwritable: it is not durable; what was written of it is removed.
        """
        stored, wrapped = self._sealed(_PURPOSE, ref, body)
        try:
            with disk_faults("the capture cannot be written"):
                self._store(ref, stored, wrapped)
        except AuditError:
            self._failed_at = self._clock()
            raise
        self._failed_at = None
        return Captured(ref, commitment_to(stored), commitment_to(wrapped))

    def keep_answer(self, ref: str, answer: bytes) -> Answered:
        """Keep the answer to the body under ``ref``, if that is still there. It waits for the disk.

        A fault is told in the result, and is no reason for anything to stay home.
        """
        path = answer_path(self._folder, ref)
        try:
            stored, wrapped = self._sealed(_ANSWER_PURPOSE, ref, answer)
            publish(path, wrapped + stored)
        except FileExistsError:  # whose it is, the record does not say
            return Answered(ref, None)
        except (OSError, MemoryError, OverflowError):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return Answered(ref, None)
        # After it is there, not before: whoever erases destroys the key first and the answer then.
        if not key_path(self._folder, ref).exists():
            with contextlib.suppress(OSError):
                _destroy(path, _WRAPPED_BYTES)
            return Answered(ref, None)
        return Answered(ref, commitment_to(wrapped + stored))

    def _sealed(self, purpose: str, ref: str, text: bytes) -> tuple[bytes, bytes]:
        """``text`` under a new data key, behind salt and nonce; and that key, wrapped."""
        data_key = AESGCM.generate_key(256)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(data_key).encrypt(nonce, text, ref.encode())
        stored = os.urandom(_SALT_BYTES) + nonce + sealed
        bound = _bound(purpose, ref, commitment_to(stored))
        return stored, SUITE.encrypt(data_key, self._public_key, bound)

    def _store(self, ref: str, stored: bytes, wrapped: bytes) -> None:
        try:
            publish(body_path(self._folder, ref), stored)
            publish(key_path(self._folder, ref), wrapped)
        except OSError:
            with contextlib.suppress(OSError):
                key_path(self._folder, ref).unlink(missing_ok=True)
                body_path(self._folder, ref).unlink(missing_ok=True)
            raise


def body_path(vault: Path, ref: str) -> Path:
    """Where the encrypted body of ``ref`` is: one folder for some three days.

    Raises:
        CaptureUnreadable: ``ref`` names no capture.
    """
    if not _REF.fullmatch(ref):
        raise CaptureUnreadable("the record names no capture")
    return vault / ref[4:9] / f"{ref}.body"


def key_path(vault: Path, ref: str) -> Path:
    """Where the wrapped key of ``ref`` is."""
    return body_path(vault, ref).with_suffix(".key")


def answer_path(vault: Path, ref: str) -> Path:
    """Where the encrypted answer of ``ref`` is, behind its wrapped key."""
    return body_path(vault, ref).with_suffix(".answer")


def commitment_to(stored: bytes) -> str:
    """``sha256:…`` of a file of the vault."""
    return f"sha256:{hashlib.sha256(stored).hexdigest()}"


def open_capture(vault: Path, captured: Captured, private_key: X25519PrivateKey) -> bytes:
    """The body that left, byte for byte.

    Raises:
        CaptureUnreadable: it is not there, is not the one that was committed to, or was encrypted
            to another key.
        OSError: it cannot be read.
    """
    try:
        stored = body_path(vault, captured.ref).read_bytes()
        wrapped = key_path(vault, captured.ref).read_bytes()
    except FileNotFoundError:
        raise CaptureUnreadable("the captured body is not in the vault") from None
    if (commitment_to(stored), commitment_to(wrapped)) != (captured.body, captured.key):
        raise CaptureUnreadable("the captured body was changed: it is not the one on the record")
    return _opened(_PURPOSE, captured.ref, (stored, wrapped), private_key)


def open_answer(vault: Path, answered: Answered, private_key: X25519PrivateKey) -> bytes:
    """The answer as it came, byte for byte.

    Raises:
        CaptureUnreadable: it was not kept, is not there, is not the one that was committed to, or
            was encrypted to another key.
        OSError: it cannot be read.
    """
    if answered.answer is None:
        raise CaptureUnreadable("the answer could not be kept, and that is on the record")
    try:
        stored = answer_path(vault, answered.ref).read_bytes()
    except FileNotFoundError:
        raise CaptureUnreadable("the captured answer is not in the vault") from None
    if commitment_to(stored) != answered.answer:
        raise CaptureUnreadable("the captured answer was changed: it is not the one on the record")
    parts = (stored[_WRAPPED_BYTES:], stored[:_WRAPPED_BYTES])
    return _opened(_ANSWER_PURPOSE, answered.ref, parts, private_key)


def _opened(
    purpose: str, ref: str, parts: tuple[bytes, bytes], private_key: X25519PrivateKey
) -> bytes:
    """The text of what was stored, and its wrapped key."""
    stored, wrapped = parts
    nonce_end = _SALT_BYTES + _NONCE_BYTES
    nonce, sealed = stored[_SALT_BYTES:nonce_end], stored[nonce_end:]
    try:
        bound = _bound(purpose, ref, commitment_to(stored))
        data_key = SUITE.decrypt(wrapped, private_key, bound)
        return AESGCM(data_key).decrypt(nonce, sealed, ref.encode())
    except (InvalidTag, ValueError):
        raise CaptureUnreadable("this key does not open it") from None


def destroy_capture(vault: Path, ref: str) -> None:
    """Overwrite and remove the wrapped keys of ``ref``, then remove the body.

    Raises:
        CaptureUnreadable: ``ref`` names no capture.
        OSError: it could not be destroyed.
    """
    key = key_path(vault, ref)
    _destroy(key)
    _destroy(answer_path(vault, ref), _WRAPPED_BYTES)
    body_path(vault, ref).unlink(missing_ok=True)
    if key.parent.is_dir():
        sync_folder(key.parent)


def destroy_drafts(vault: Path, ref: str) -> None:
    """Overwrite and remove what a crash left of ``ref`` under other names.

    Raises:
        CaptureUnreadable: ``ref`` names no capture.
        OSError: it could not be destroyed.
    """
    folder = body_path(vault, ref).parent
    for draft in folder.glob(f".{ref}.*"):
        _destroy(draft, _WRAPPED_BYTES)
    if folder.is_dir():
        sync_folder(folder)


def _destroy(path: Path, num_bytes: int | None = None) -> None:
    """Overwrite the first ``num_bytes`` of a file, or all of it, and remove it if it is there."""
    with contextlib.suppress(FileNotFoundError):
        with path.open("r+b") as file:
            size = path.stat().st_size
            file.write(bytes(size if num_bytes is None else min(size, num_bytes)))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()


def is_overwritten(path: Path) -> bool:
    """Whether the key in a file of the vault was overwritten: a crash came before its removal.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix not in (".key", ".answer"):
        return False
    with path.open("rb") as file:
        return not any(file.read(_WRAPPED_BYTES))


def vault_refs(ledger: Path, suffix: str = ".key") -> set[str]:
    """The captures whose wrapped key is in the vault, or whose file of another ``suffix`` is."""
    return {ref_of(path) for path in vault_files(ledger) if path.suffix == suffix}


def captured_of(members: dict[str, Any]) -> Captured | None:
    """What an intent says of its captured body; None where it has none."""
    match members:
        case {"kind": "egress.intent", "vault": {"ref": str(r), "body": str(b), "key": str(k)}}:
            return Captured(r, b, k)
    return None


def answered_of(members: dict[str, Any]) -> Answered | None:
    """What an outcome says of its captured answer; None where none was to be kept."""
    match members:
        case {"kind": "egress.outcome", "vault": {"ref": str(ref), "answer": str(answer)}}:
            return Answered(ref, answer)
        case {"kind": "egress.outcome", "vault": {"ref": str(ref), "answer": None}}:
            return Answered(ref, None)
    return None


def erased_of(members: dict[str, Any]) -> str | None:
    """The capture that a record says is erased."""
    match members:
        case {"kind": "erasure", "detail": {"ref": str(ref)}}:
            return ref
    return None


def ref_of(path: Path) -> str:
    """The capture that a file of the vault belongs to, a draft of it too."""
    return path.name.removeprefix(".").partition(".")[0]


def vault_files(ledger: Path) -> Iterator[Path]:
    """Every file of the vault, drafts that a crash left too."""
    return (ledger / VAULT).glob("*/*")


def _bound(purpose: str, ref: str, commitment: str) -> bytes:
    """What a wrapped key is bound to: no key of one body or answer serves for another."""
    return f"{purpose}\n{ref}\n{commitment}".encode()
