"""Reads the word lists that recognizers name with ``terms_file``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.inspection.terms import tokens_of
from proxy.policy.language import PolicyFile

MAX_BYTES: Final = 1024 * 1024
MAX_TERMS: Final = 50_000
MAX_TERM_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class TermFile:
    """A word list: its name, its bytes and its terms, or what is wrong with it."""

    name: str
    raw: bytes = field(repr=False)
    terms: tuple[str, ...] = field(repr=False)
    problem: str = ""


def read_term_files(folder: Path, content: PolicyFile) -> tuple[TermFile, ...]:
    """The word lists that ``content`` names, each once, by name."""
    names = {given.terms_file for given in content.recognizers if given.terms_file}
    return tuple(_read(folder / name) for name in sorted(names))


def _read(path: Path) -> TermFile:
    if not path.is_file():
        return _unusable(path, "is not there")
    if path.resolve().parent != path.parent.resolve():
        return _unusable(path, "leads out of its folder")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError:
        return _unusable(path, "cannot be read")
    if len(raw) > MAX_BYTES:
        return _unusable(path, f"is larger than {MAX_BYTES} bytes")
    try:
        lines = raw.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return _unusable(path, "is not UTF-8")
    return _terms_of(path, raw, lines)


def _terms_of(path: Path, raw: bytes, lines: list[str]) -> TermFile:
    terms: list[str] = []
    for number, line in enumerate(lines, start=1):
        term = line.strip().removeprefix("\ufeff")
        if not term or term.startswith("#"):
            continue
        if not 2 <= len(term) <= MAX_TERM_CHARS or not tokens_of(term):
            return _unusable(
                path, f"has no term of 2 to {MAX_TERM_CHARS} characters in line {number}"
            )
        terms.append(term)
    if not terms:
        return _unusable(path, "has no terms")
    if len(terms) > MAX_TERMS:
        return _unusable(path, f"has more than {MAX_TERMS} terms")
    return TermFile(path.name, raw, tuple(terms))


def _unusable(path: Path, problem: str) -> TermFile:
    return TermFile(path.name, b"", (), f"{path.name} {problem}")
