"""Detached signatures over a policy with all its files, and the keys that are trusted to sign.

What is signed names the file, the pack, its revision and the digest over every file, so that a
signature holds for nothing else. A key belongs to the person whose name it carries: two keys of
one name count as one person.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.note import BadNote, read_verifier_key, sign, signed_text
from audit.record import name_or_other
from proxy.policy.model import Policy
from proxy.policy.refusal import PolicyRefused, Rejection

SUFFIX: Final = ".sig"
KEY_SUFFIX: Final = ".pub"
_HEADING: Final = "ringfence-policy/v1"
_MARK: Final = "\N{EM DASH} "
_PERSON: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,59}")
MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key (32 bytes, Ed25519) and the person it belongs to."""

    person: str
    public: bytes


def is_person(name: str) -> bool:
    """Whether ``name`` can stand in a key and on the record: lower case, and no long number."""
    return bool(_PERSON.fullmatch(name)) and name_or_other(name) == name


def statement(policy: Policy) -> str:
    """The text that is signed."""
    content = policy.content
    return (
        f"{_HEADING}\nfile {policy.file}\npack {content.pack}\n"
        f"revision {content.revision}\ndigest {policy.digest}\n"
    )


def signature_path(path: Path, digest: str) -> Path:
    """Where the signatures of the policy at ``path`` stand while it has this digest.

    A name for each version: the signature can be put in place before the version it is for.
    """
    return path.with_name(f"{path.name}.{digest.removeprefix('sha256:')[:12]}{SUFFIX}")


def trusted_keys(folder: Path) -> tuple[TrustedKey, ...]:
    """The keys in ``folder``, one a file (C2SP verifier keys, ``<person>+<id>+<base64>``).

    Raises:
        PolicyRefused: there is none, one cannot be read, two persons share one, or everybody may
            write there.
    """
    keys, problem = [], ""
    try:
        paths = sorted(folder.glob(f"*{KEY_SUFFIX}"))
        for path in (folder, *paths):
            if path.stat().st_mode & stat.S_IWOTH:
                problem = f"{path} can be written by everybody"
        keys = [TrustedKey(*read_verifier_key(_read(path).decode())) for path in paths]
        if not all(is_person(key.person) for key in keys):
            problem = f"{folder}: the name in a key is no name of a person"
    except (OSError, ValueError, BadNote) as error:
        problem = f"{folder}: a key cannot be read ({type(error).__name__})"
    if not keys and not problem:
        problem = f"{folder} holds no key (*{KEY_SUFFIX}): nobody could sign"
    if len({key.public for key in keys}) != len(keys):
        problem = f"{folder} holds one key twice"
    if problem:
        raise PolicyRefused(Rejection.NO_TRUST_ROOT, problem)
    return tuple(keys)


def signers(policy: Policy, path: Path, keys: Iterable[TrustedKey]) -> tuple[str, ...]:
    """The persons who signed ``policy``, which was read from ``path``, sorted; at least one.

    Raises:
        PolicyRefused: unsigned, signed as something else, or by nobody who is trusted.
    """
    file = signature_path(path, policy.digest)
    note = _read_signatures(file)
    if note is None:
        problem = f"{path}: {file.name} is not there; run `ringfence policy sign`"
        raise PolicyRefused(Rejection.UNSIGNED, problem)
    text, lines = _parts(note)
    if text != statement(policy) or not lines:
        problem = f"{file}: the signature is not of this policy"
        raise PolicyRefused(Rejection.BAD_SIGNATURE, problem)
    names = [line.removeprefix(_MARK).partition(" ")[0] for line in lines]
    found = set()
    for key in keys:
        held = [line for line, name in zip(lines, names, strict=True) if name == key.person]
        if any(_holds(text, line, key) for line in held):
            found.add(key.person)
    if not found:
        known = {key.person for key in keys} & set(names)
        reason = Rejection.BAD_SIGNATURE if known else Rejection.UNKNOWN_SIGNER
        raise PolicyRefused(reason, f"{file}: no signature by a trusted key holds")
    return tuple(sorted(found))


def with_signature(policy: Policy, path: Path, name: str, key: Ed25519PrivateKey) -> bytes:
    """The signatures of ``policy`` so far, with one by ``key`` added or put in its place."""
    text = statement(policy)
    mine = sign(text, name, key).decode().rpartition("\n\n")[2]
    note = _read_signatures(signature_path(path, policy.digest))
    before, lines = _parts(note) if note else ("", ())
    others = [line for line in lines if before == text and not line.startswith(f"{_MARK}{name} ")]
    return "\n".join([text, *others, mine]).encode()


def _holds(text: str, line: str, key: TrustedKey) -> bool:
    try:
        signed_text(f"{text}\n{line}\n".encode(), key.person, key.public)
    except BadNote:
        return False
    return True


def _parts(note: bytes) -> tuple[str, tuple[str, ...]]:
    """The text and the signature lines of a note; of what is none, nothing."""
    text, gap, rest = note.decode("utf-8", "replace").rpartition("\n\n")
    lines = tuple(rest.removesuffix("\n").split("\n"))
    if not gap or not rest.endswith("\n") or not all(line.startswith(_MARK) for line in lines):
        return "", ()
    return f"{text}\n", lines


def _read_signatures(file: Path) -> bytes | None:
    try:
        return _read(file)
    except (OSError, ValueError):
        return None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError("too large")
    return raw
