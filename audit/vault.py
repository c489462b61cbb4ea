"""The vault: what left, encrypted so that an auditor alone can read it.

Each body has a data key of its own (AES-256-GCM). The data key is wrapped to the auditor's X25519
public key (HPKE, RFC 9180) in a file of its own: whoever destroys that file erases one body and no
other. The writing side holds no key that opens anything.
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
_REF: Final = re.compile(r"cap_[0-9a-f]{28}")
_SALT_BYTES: Final = 32
_NONCE_BYTES: Final = 12
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


class Vault:
    """Keeps bodies in ``folder``, encrypted to ``public_key``."""

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
        data_key = AESGCM.generate_key(256)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(data_key).encrypt(nonce, body, ref.encode())
        stored = os.urandom(_SALT_BYTES) + nonce + sealed
        commitment = commitment_to(stored)
        wrapped = SUITE.encrypt(data_key, self._public_key, _bound(ref, commitment))
        try:
            with disk_faults("the capture cannot be written"):
                self._store(ref, stored, wrapped)
        except AuditError:
            self._failed_at = self._clock()
            raise
        self._failed_at = None
        return Captured(ref, commitment, commitment_to(wrapped))

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
    nonce_end = _SALT_BYTES + _NONCE_BYTES
    nonce, sealed = stored[_SALT_BYTES:nonce_end], stored[nonce_end:]
    try:
        data_key = SUITE.decrypt(wrapped, private_key, _bound(captured.ref, captured.body))
        return AESGCM(data_key).decrypt(nonce, sealed, captured.ref.encode())
    except (InvalidTag, ValueError):
        raise CaptureUnreadable("this key does not open it") from None


def destroy_capture(vault: Path, ref: str) -> None:
    """Overwrite and remove the wrapped key of ``ref``, then remove the body.

    Raises:
        CaptureUnreadable: ``ref`` names no capture.
        OSError: it could not be destroyed.
    """
    key = key_path(vault, ref)
    with contextlib.suppress(FileNotFoundError):
        with key.open("r+b") as file:
            file.write(bytes(key.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        key.unlink()
    body_path(vault, ref).unlink(missing_ok=True)
    if key.parent.is_dir():
        sync_folder(key.parent)


def is_overwritten(path: Path) -> bool:
    """Whether a file of the vault is a key that was overwritten: a crash came before its removal.

    Raises:
        OSError: it cannot be read.
    """
    return path.suffix == ".key" and not any(path.read_bytes())


def vault_refs(ledger: Path) -> set[str]:
    """The captures whose wrapped key is in the vault."""
    return {ref_of(path) for path in vault_files(ledger) if path.suffix == ".key"}


def captured_of(members: dict[str, Any]) -> Captured | None:
    """What an intent says of its captured body; None where it has none."""
    match members:
        case {"kind": "egress.intent", "vault": {"ref": str(r), "body": str(b), "key": str(k)}}:
            return Captured(r, b, k)
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


def _bound(ref: str, commitment: str) -> bytes:
    """What a wrapped key is bound to: no key of one body serves for another."""
    return f"{_PURPOSE}\n{ref}\n{commitment}".encode()
