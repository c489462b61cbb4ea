"""An auditor's pair of keys for captured bodies: the proxy holds the public one, and no other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from audit.disk import make_folder, publish
from audit.errors import AuditError
from audit.vault import SUITE

PRIVATE_NAME: Final = "capture.key"
PUBLIC_NAME: Final = "capture.pub"


class BadCaptureKey(AuditError):
    """A file holds no key of the kind that is wanted."""

    code = "bad_capture_key"


def make_capture_key(folder: Path) -> Path:
    """Make an auditor's pair of keys in ``folder``; gives the public key's file.

    Raises:
        OSError: it cannot be written, or one is there already.
    """
    key = X25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    make_folder(folder)
    publish(folder / PRIVATE_NAME, private)
    publish(folder / PUBLIC_NAME, public, mode=0o644)
    return folder / PUBLIC_NAME


def load_public_key(path: Path) -> X25519PublicKey:
    """The public key at ``path``, tried once.

    Raises:
        BadCaptureKey: it cannot be read, is none, is a private key, or has its private key beside
            it: who runs the proxy must not be able to read what left.
    """
    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise BadCaptureKey("it is a private key, which belongs to the auditor alone")
    if path.with_name(PRIVATE_NAME).exists():
        raise BadCaptureKey(f"the private key {PRIVATE_NAME} lies beside it: take that away")
    try:
        key = serialization.load_pem_public_key(data)
        if isinstance(key, X25519PublicKey):
            SUITE.encrypt(b"", key)
            return key
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise BadCaptureKey("it is no public key that `ringfence audit capture-key` made")


def load_private_key(path: Path) -> X25519PrivateKey:
    """The private key at ``path``.

    Raises:
        BadCaptureKey: it cannot be read, or is none.
    """
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadCaptureKey("the key file holds no private key") from None
    if not isinstance(key, X25519PrivateKey):
        raise BadCaptureKey("the key file holds no X25519 key")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadCaptureKey(f"it cannot be read: {os.strerror(error.errno or 0)}") from None
