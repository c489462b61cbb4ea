"""Proves one record without the others: its line, its way to a signed root, and the keys.

The proof is checked with nothing but the first public key, kept elsewhere. Roots are computed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from audit.chain import BadLine, read_line
from audit.checkpoint import Head, head_path, read_head, text_of
from audit.epochs import check_epochs, epoch_notes, signed_head
from audit.merkle import BadProof, leaf_hash, prove, root_from_proof
from audit.note import BadNote, read_verifier_key, verifier_key
from audit.replay import WAL, leaves_until, stored_heads
from audit.segments import chain_folders, chain_leaves, numbered_lines

VERSION: Final = 1

#: A proof of a record among 2^60 has 60 hashes.
_MAX_PATH: Final = 64


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof that holds says: the record, its place, and the time of the checkpoint."""

    record: dict[str, object]
    index: int
    size: int
    sealed: str


@dataclass(frozen=True, slots=True)
class Proof:
    """A record with its way to a checkpoint; the form is told in ``docs/record-format.md``."""

    record: str
    index: int
    size: int
    path: tuple[str, ...]
    checkpoint: str
    keys: tuple[str, ...]
    v: int = VERSION

    def to_json(self) -> str:
        """As JSON, one member a line."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Proof:
        """Read a proof.

        Raises:
            BadProof: it has another form.
        """
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            given = None
        fields = {"record": str, "index": int, "size": int, "checkpoint": str, "v": int}
        lists = ("path", "keys")
        if (
            not isinstance(given, dict)
            or set(given) != {*fields, *lists}
            or any(type(given[name]) is not kind for name, kind in fields.items())
            or any(not _is_strings(given[name]) for name in lists)
            or given["v"] != VERSION
            or len(given["path"]) > _MAX_PATH
        ):
            raise BadProof("it is no proof of the known form")
        return cls(**{**given, "path": tuple(given["path"]), "keys": tuple(given["keys"])})

    def check(self, key: str) -> Proven:
        """What the proof proves to who holds ``key``, the ledger's first verifier key.

        Raises:
            BadProof: the record is not in the tree that the checkpoint signs.
            BadNote: the checkpoint or a key is not signed as it should be.
        """
        head = self._head(key)
        try:
            line = self.record.encode("ascii")
            path = [bytes.fromhex(part) for part in self.path]
            record = read_line(line)
        except (ValueError, BadLine):
            raise BadProof("the record or its path is not what was written") from None
        if self.size != head.size or any(len(part) != 32 for part in path):
            raise BadProof("the path is not one through the checkpoint's tree")
        if root_from_proof(leaf_hash(line), self.index, head.size, path) != head.root:
            raise BadProof("the record is not in the tree that the checkpoint signs")
        return Proven(record, self.index, head.size, head.time)

    def _head(self, key: str) -> Head:
        """The checkpoint, checked."""
        name, public = read_verifier_key(key)
        epochs = check_epochs((note.encode() for note in self.keys), name)
        if not epochs or epochs[0].public != public:
            raise BadNote(f"the first key is not {verifier_key(name, public)}")
        note = self.checkpoint.encode()
        return signed_head(note, read_head(text_of(note)).index, epochs, name)


def prove_record(ledger: Path, record_id: str) -> Proof:
    """The proof of the record ``record_id``, to the first checkpoint that holds it.

    Raises:
        BadProof: no such record, not sealed yet, or the ledger does not hold together.
        BadNote: a checkpoint is missing or unreadable, or a key is missing.
        OSError: the ledger cannot be read.
    """
    chain, seq, line = _find(ledger, record_id)
    heads = list(_heads_until(ledger, chain, seq))
    head = heads[-1]
    leaves = leaves_until(lambda name: chain_leaves(ledger / WAL / name), heads)
    leaf = leaf_hash(line)  # a line names its chain and number: no other has its hash
    if leaf not in leaves:
        raise BadProof("the checkpoints do not hold together; run verify")
    index = leaves.index(leaf)
    notes = epoch_notes(ledger)[: head.epoch + 1]
    proof = Proof(
        record=line.decode("ascii"),
        index=index,
        size=head.size,
        path=tuple(part.hex() for part in prove(leaves, index)),
        checkpoint=head_path(ledger, head.index).read_bytes().decode(),
        keys=tuple(note.decode() for note in notes),
    )
    epochs = check_epochs(notes, head.origin)
    if not epochs:
        raise BadNote("the ledger has no public key")
    proof.check(verifier_key(head.origin, epochs[0].public))  # none that fails is given out
    return proof


def _find(ledger: Path, record_id: str) -> tuple[str, int, bytes]:
    """Chain, number and line of a record."""
    needle = f'"id":{json.dumps(record_id)},'.encode()
    for folder in chain_folders(ledger / WAL):
        for seq, line in numbered_lines(folder):
            if needle in line and _id_of(line) == record_id:
                return folder.name, seq, line
    raise BadProof("there is no record of that id (any more, if retention removed it)")


def _id_of(line: bytes) -> object:
    try:
        return read_line(line).get("id")
    except BadLine:
        return None


def _heads_until(ledger: Path, chain: str, seq: int) -> Iterator[Head]:
    """The checkpoints from the first to the one that seals the record."""
    for number, head in enumerate(stored_heads(ledger)):
        if head.index != number:
            raise BadNote(f"checkpoint {number} is missing or unreadable; run verify")
        yield head
        if any(run.chain == chain and run.first <= seq < run.end for run in head.runs):
            return
    raise BadProof("the record is not sealed yet; wait for the next checkpoint")


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
