"""Where policies come from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from proxy.errors import PolicyError
from proxy.policy.faults import faults_of
from proxy.policy.language import PolicyFile
from proxy.policy.model import LoadedFile, Policy, join
from proxy.policy.problems import Problem, read_content
from proxy.policy.reader import Document, Place, read_document
from proxy.policy.termfiles import TermFile, read_term_files

MAX_FILES = 64


class PolicySource(Protocol):
    """Gives the policy."""

    def load(self) -> Policy:
        """Read the policy anew.

        Raises:
            PolicyError: it cannot be used; says file, line, key and the mend.
        """
        ...


class FilePolicySource:
    """A YAML file and what it includes, from the same folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Policy:
        """Read the files; see `PolicySource`."""
        documents = read_documents(self._path)
        contents: list[PolicyFile] = []
        problems: list[Problem] = []
        for document in documents:
            content, faults = read_content(document, document.members)
            problems += faults
            if content is not None:
                contents.append(content)
        _refuse(problems)
        files = [
            (document.path, loaded_file(document, content, document.places))
            for document, content in zip(documents, contents, strict=True)
        ]
        _refuse(list(faults_of(files)))
        loaded = tuple(file for _, file in files)
        return Policy(
            file=self._path.name,
            digest=digest_of(documents, [one for file in loaded for one in file.term_files]),
            loaded_at=datetime.now(UTC),
            content=join(loaded),
            files=loaded,
        ).compiled()


def loaded_file(
    document: Document, content: PolicyFile, places: Mapping[Place, tuple[int, int]]
) -> LoadedFile:
    """The file with the word lists it names, which may have problems of their own."""
    term_files = read_term_files(document.path.parent, content)
    return LoadedFile(document.path.name, content, places, term_files)


def read_documents(path: Path) -> tuple[Document, ...]:
    """The file at ``path`` and all that it includes, each once, the rest by name.

    Raises:
        PolicyError: one cannot be read; says which one, and who includes it.
    """
    root = read_document(path)
    found = {path.stem: root}
    waiting = [(root, name) for name in _included(root)]
    while waiting:
        by, name = waiting.pop()
        if name in found:
            continue
        if len(found) >= MAX_FILES:
            raise PolicyError(f"{path}:1:1: more than {MAX_FILES} files; include fewer")
        found[name] = _include(path, by, name)
        waiting += [(found[name], inner) for inner in _included(found[name])]
    return (root, *(found[name] for name in sorted(found) if found[name] is not root))


def _include(path: Path, by: Document, name: str) -> Document:
    """A file of the same folder, never one that a link or a name leads elsewhere."""
    file = path.parent / f"{name}.yaml"
    line, column = by.where(("include",))
    where = f"{by.path}:{line}:{column}"
    if not file.is_file():
        raise PolicyError(f"{where}: include: {file.name} is not there; mend the name")
    if file.resolve().parent != path.parent.resolve():
        raise PolicyError(f"{where}: include: {file.name} leads out of its folder; copy it here")
    return read_document(file)


def _included(document: Document) -> list[str]:
    """The names under ``include``; an odd one is left to validation, which refuses the file."""
    names = document.members.get("include")
    if not isinstance(names, list):
        return []
    return [
        n for n in names if isinstance(n, str) and n.replace("-", "").replace("_", "").isalnum()
    ]


def digest_of(documents: Sequence[Document], term_files: Sequence[TermFile] = ()) -> str:
    """``sha256:`` and a digest over names and bytes; of a single file, over its bytes alone."""
    parts = [(document.path.name, document.raw) for document in documents]
    parts += sorted({(file.name, file.raw) for file in term_files})
    if len(parts) == 1:
        return f"sha256:{hashlib.sha256(parts[0][1]).hexdigest()}"
    digest = hashlib.sha256()
    for name, raw in parts:
        digest.update(f"{name}\n{hashlib.sha256(raw).hexdigest()}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise PolicyError("\n".join(str(problem) for problem in sorted(problems)))
