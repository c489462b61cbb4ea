"""A bundle for a third party: the records sealed in some time, with all it takes to check them.

It is a ZIP with a signed list of its files. The records are one run of the tree's leaves: from the
edge of the tree at one checkpoint they lead to the root of another, so that none is changed, left
out or added. It is checked with nothing but the first public key.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from audit.chain import BadLine, read_line
from audit.checkpoint import Head, head_path, text_of
from audit.epochs import check_epochs, present_signer, signed_head
from audit.merkle import BadProof, Edge, leaf_hash
from audit.note import BadNote, read_verifier_key, sign, signed_text, verifier_key
from audit.replay import WAL, leaves_until, stored_heads
from audit.schema import schema_text
from audit.segments import chain_leaves, numbered_lines
from audit.stores.address import open_store
from audit.verify import verify

HEADING: Final = "ringfence-bundle/v1"
MANIFEST: Final = "manifest.note"
RECORDS: Final = "records.jsonl"

#: A larger member is refused unread, lest a bundle fill the memory of who checks it.
MAX_MEMBER_BYTES: Final = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle that holds says."""

    content: dict[str, Any]
    num_records: int
    key: str


def make_bundle(
    ledger: Path, keys_dir: Path, since: str, until: str, url: str | None = None
) -> bytes:
    """The records that checkpoints of the time ``since`` to before ``until`` seal, as a ZIP.

    ``url`` is the database that ``ledger`` is a copy of, if it is one.

    Raises:
        BadProof: the ledger was changed, no checkpoint of that time seals anything, or retention
            removed records of that time.
        LedgerUnwritable: the signing key is missing.
        OSError: the ledger cannot be read.
    """
    report = verify(ledger)
    if not report.is_sound:
        raise BadProof("the ledger was changed; run verify")
    heads = list(stored_heads(ledger))
    earlier = list(takewhile(lambda head: head.time < since, heads))
    chosen = list(takewhile(lambda head: head.time < until, heads[len(earlier) :]))
    lines = list(_lines(ledger, chosen))
    if not lines:
        raise BadProof("no checkpoint of that time seals anything")
    edge = Edge()
    for leaf in leaves_until(lambda chain: chain_leaves(ledger / WAL / chain), earlier):
        edge.append(leaf)
    members = {
        "README.md": files("audit").joinpath("bundle_readme.md").read_bytes(),
        RECORDS: b"".join(line + b"\n" for line in lines),
        "schema.json": schema_text().encode(),
        **{
            f"checkpoints/{head.index:09d}": head_path(ledger, head.index).read_bytes()
            for head in (*earlier[-1:], *chosen)
        },
    }
    name = heads[-1].origin
    with contextlib.closing(open_store(url, ledger, keys_dir)) as store, store.locked():
        signer = present_signer(store, name)
        notes = store.epoch_notes()[: signer.epoch.number + 1]
    members |= {f"keys/{number:06d}.note": note for number, note in enumerate(notes)}
    content = {
        "since": since,
        "until": until,
        "records": len(lines),
        "first_index": edge.size,
        "edge": [part.hex() for part in edge.hashes],
        "before": earlier[-1].index if earlier else None,
        "checkpoint": chosen[-1].index,
        "files": {path: hashlib.sha256(data).hexdigest() for path, data in members.items()},
    }
    text = f"{HEADING} {name}\nepoch {signer.epoch.number}\n{json.dumps(content, indent=1)}\n"
    bundle = _zip({MANIFEST: sign(text, name, signer.key), **members})
    check_bundle(io.BytesIO(bundle), report.key)  # none that fails is given out
    return bundle


def check_bundle(file: io.BufferedIOBase | Path, key: str | None) -> Bundle:
    """What a bundle says to who holds ``key``, the ledger's first verifier key.

    Without a key it is held against the one it brings along, which proves that it is whole and
    nothing of where it comes from.

    Raises:
        BadProof: it is no bundle, or its records do not lead from one checkpoint to the other.
        BadNote: a signature does not hold.
        OSError: it cannot be read.
    """
    members = _members(file)
    manifest = members.pop(MANIFEST, b"")
    heading, epoch_line, body = (*text_of(manifest).split("\n", 2), "", "")[:3]
    content = _content(body)
    if {path: hashlib.sha256(data).hexdigest() for path, data in members.items()} != dict(
        content["files"]
    ):
        raise BadProof("its files are not those of its signed list")
    notes = [members[path] for path in sorted(members) if path.startswith("keys/")]
    name, public = _name_and_key(notes, key)
    epochs = check_epochs(notes, name)
    if not epochs or epochs[0].public != public:
        raise BadNote(f"the first key is not {verifier_key(name, public)}")
    if (heading, epoch_line) != (f"{HEADING} {name}", f"epoch {epochs[-1].number}"):
        raise BadNote("its list is not signed under the newest of its keys")
    signed_text(manifest, name, epochs[-1].public)

    def checkpoint(index: int) -> Head:
        note = members.get(f"checkpoints/{index:09d}")
        if note is None:
            raise BadProof("a checkpoint that it names is not in it")
        return signed_head(note, index, epochs, name)

    _check_records(members[RECORDS], content, checkpoint)
    return Bundle(content, content["records"], verifier_key(name, public))


def _check_records(
    records: bytes, content: dict[str, Any], checkpoint: Callable[[int], Head]
) -> None:
    """The lines lead from the tree of one checkpoint to the root of the other."""
    edge = Edge(content["first_index"], [bytes.fromhex(part) for part in content["edge"]])
    before = content["before"]
    if len(edge.hashes) != edge.size.bit_count():
        raise BadProof("the edge of its tree has another form")
    if before is None and edge.size:
        raise BadProof("it does not say from which checkpoint it goes on")
    if before is not None:
        start = checkpoint(before)
        if (start.size, start.root) != (edge.size, edge.root()):
            raise BadProof("it does not go on from the checkpoint that it names")
    *lines, tail = records.split(b"\n")
    if tail or len(lines) != content["records"]:
        raise BadProof("it has another number of records")
    for number, line in enumerate(lines):
        try:
            read_line(line)
        except BadLine as error:
            raise BadProof(f"record {number + 1} is not what was written: {error}") from None
        edge.append(leaf_hash(line))
    end = checkpoint(content["checkpoint"])
    if (end.size, end.root) != (edge.size, edge.root()):
        raise BadProof("its records are not those that its checkpoint signs")


def _lines(ledger: Path, heads: Iterable[Head]) -> Iterator[bytes]:
    """The lines that ``heads`` add to the tree, in its order.

    Raises:
        BadProof: one of them was removed.
    """
    stored: dict[str, dict[int, bytes]] = {}
    for head in heads:
        for run in head.runs:
            if run.chain not in stored:
                stored[run.chain] = dict(numbered_lines(ledger / WAL / run.chain))
            for seq in range(run.first, run.end):
                if seq not in stored[run.chain]:
                    raise BadProof(f"records of {head.time[:10]} were removed: begin later")
                yield stored[run.chain][seq]


def _name_and_key(notes: list[bytes], key: str | None) -> tuple[str, bytes]:
    """The ledger's name and first key: those given, else those that the bundle brings along."""
    if key is not None:
        return read_verifier_key(key)
    if not notes:
        raise BadNote("it brings no key along")
    introduced = notes[0].decode("utf-8", "replace").split("\n")
    return read_verifier_key(next((x[4:] for x in introduced if x.startswith("key ")), ""))


def _content(body: str) -> dict[str, Any]:
    """The signed list, as far as its form goes."""
    kinds = {"records": int, "first_index": int, "checkpoint": int, "files": dict, "edge": list}
    try:
        content = json.loads(body)
        is_known = all(type(content[name]) is kind for name, kind in kinds.items()) and all(
            isinstance(part, str) and len(bytes.fromhex(part)) == 32 for part in content["edge"]
        )
        is_known = is_known and (content["before"] is None or type(content["before"]) is int)
        is_known = is_known and content["first_index"] >= 0 and RECORDS in content["files"]
    except (ValueError, RecursionError, TypeError, KeyError):
        is_known = False
    if not is_known:
        raise BadProof("it has no list of its files in the known form")
    return dict(content)


def _members(file: io.BufferedIOBase | Path) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(file) as bundle:
            for info in bundle.infolist():
                if info.filename in members or info.file_size > MAX_MEMBER_BYTES:
                    raise BadProof("a file in it stands there twice, or is too large")
                members[info.filename] = bundle.read(info)
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        NotImplementedError,
        EOFError,
        RuntimeError,
    ):
        members = {}
    if MANIFEST not in members or RECORDS not in members:
        raise BadProof("it is no bundle")
    return members


def _zip(members: dict[str, bytes]) -> bytes:
    """A ZIP that is the same for the same members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path, data in members.items():
            bundle.writestr(zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()
