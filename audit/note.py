"""Signed notes: a text with an Ed25519 signature that any C2SP tool can check.

Source: C2SP signed-note. A note is the text, an empty line, and ``— <name> <base64(id || sig)>``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.errors import AuditError

_ED25519: Final = b"\x01"
_DASH: Final = "\N{EM DASH} "


class BadNote(AuditError):
    """A signed note is not what its key's owner signed."""

    code = "bad_note"


def key_id(name: str, public: bytes) -> bytes:
    """The four bytes that name a key in a signature line. Source: C2SP signed-note."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def verifier_key(name: str, public: bytes) -> str:
    """The public key in C2SP's text form, ``<name>+<id>+<base64>``."""
    encoded = base64.b64encode(_ED25519 + public).decode()
    return f"{name}+{key_id(name, public).hex()}+{encoded}"


def read_verifier_key(text: str) -> tuple[str, bytes]:
    """Name and 32 public bytes of a verifier key.

    Raises:
        BadNote: it is none, or its id is not its own.
    """
    name, _, rest = text.strip().partition("+")
    encoded = rest.partition("+")[2]
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 33 or raw[:1] != _ED25519 or verifier_key(name, raw[1:]) != text.strip():
        raise BadNote("not a verifier key")
    return name, raw[1:]


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 public bytes of a private key."""
    return key.public_key().public_bytes_raw()


def sign(text: str, name: str, key: Ed25519PrivateKey) -> bytes:
    """``text`` (which ends in a line feed) as a note signed by ``key``."""
    signature = key_id(name, public_bytes(key)) + key.sign(text.encode())
    return f"{text}\n{_DASH}{name} {base64.b64encode(signature).decode()}\n".encode()


def signed_text(note: bytes, name: str, public: bytes) -> str:
    """The text of ``note``, whose signature by ``public`` holds. It must carry that one only.

    Raises:
        BadNote: it does not hold, or the note has another form.
    """
    try:
        text, gap, line = note.decode().rpartition("\n\n")
        start = f"{_DASH}{name} "
        encoded = line.removeprefix(start).removesuffix("\n")
        if not gap or line != f"{start}{encoded}\n":
            raise BadNote("not a note signed under this name")
        raw = base64.b64decode(encoded, validate=True)
        if base64.b64encode(raw).decode() != encoded or raw[:4] != key_id(name, public):
            raise BadNote("signed by another key")
        Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], f"{text}\n".encode())
    except (UnicodeDecodeError, binascii.Error, InvalidSignature):
        raise BadNote("the signature does not hold") from None
    return f"{text}\n"
