"""A second verifier, written from docs/record-format.md alone: it shares no code with `audit`.

`python tests/audit/independent_verifier.py LEDGER` prints what is wrong; exit 0 where nothing is.
It needs the standard library and the `cryptography` package.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import zlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ZEROS = "0" * 64
HEAD = re.compile(
    r"([^\n]+)\n(\d+)\n([A-Za-z0-9+/]{43}=)\nindex (\d+)\ntime [^\n]+\nepoch (\d+)\n"
    r"prev ([0-9a-f]{64})\n((?:seal [a-z0-9_]+ \d+ \d+\n)*)"
)
EPOCH = re.compile(
    r"ringfence-epoch/v1 ([^\n]+)\nepoch (\d+)\nkey ([^\n+]+)\+([0-9a-f]{8})\+([^\n]+)\n"
    r"first (\d+)\nday [^\n]+\nprev ([0-9a-f]{64})\n"
)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1."""
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:]))


def holds(note: bytes, name: str, public: bytes) -> str | None:
    """The text of a signed note whose one signature is by ``public``; None if it is not."""
    try:
        text, _, last = note.decode().rpartition("\n\n")
        dash, signer, encoded = last.removesuffix("\n").split(" ")
        raw = base64.b64decode(encoded, validate=True)
        Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], f"{text}\n".encode())
    except (ValueError, InvalidSignature):
        return None
    key_id = sha(name.encode() + b"\n\x01" + public)[:4]
    is_form = dash == "\N{EM DASH}" and last == f"{dash} {name} {base64.b64encode(raw).decode()}\n"
    return f"{text}\n" if is_form and signer == name and raw[:4] == key_id else None


class Check:
    """Collects what is wrong with the ledger in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[str] = []
        self.leaves: dict[str, list[bytes]] = {}
        self.must_seal: dict[str, bool] = {}  # whether the chain says that it was stopped
        self.has_intent: set[str] = set()
        self.known_head = -1
        self.keys: list[tuple[int, bytes]] = []
        self.name = ""
        self.retention: list[tuple[str, int, dict[str, Any]]] = []
        self.removed: list[tuple[tuple[str, int, int], str]] = []
        self.seals: dict[str, list[tuple[int, int, int, str]]] = {}  # first, end, leaf, time

    def run(self) -> list[str]:
        for chain in sorted(path for path in (self.folder / "wal").iterdir() if path.is_dir()):
            segments = self.segments(chain)
            if segments:
                self.chain(chain.name, segments)
        notes = {
            int(path.name): path.read_bytes()
            for path in (self.folder / "tlog" / "heads").rglob("*")
            if path.is_file() and re.fullmatch(r"\d{9}", path.name)
        }
        self.read_keys(sorted((self.folder / "keys").glob("*.note")))
        self.heads(notes)
        self.removals()
        return self.faults

    def segments(self, chain: Path) -> list[Path]:
        """One file for each segment: the plain one, else the packed one, else the pruned one."""
        files: dict[str, Path] = {}
        for suffix in (".jsonl", ".jsonl.gz", ".pruned"):
            for path in chain.iterdir():
                if path.name.endswith(suffix) and not path.name.startswith("."):
                    files.setdefault(path.name.removesuffix(suffix), path)
        return [files[stem] for stem in sorted(files)]

    def content(self, segment: Path) -> bytes:
        data = segment.read_bytes()
        if segment.suffix != ".gz":
            return data
        inflate = zlib.decompressobj(wbits=31)
        try:
            lines = inflate.decompress(data, 1 << 27)
        except zlib.error:
            lines = b""
        if not inflate.eof or inflate.unused_data or data[:8] != b"\x1f\x8b\x08" + bytes(5):
            self.faults.append(f"{segment.parent.name}: {segment.name} cannot be unpacked")
        return lines

    def chain(self, name: str, segments: list[Path]) -> None:
        prev: str | None = ZEROS
        kind, hashes = "", self.leaves.setdefault(name, [])
        intents: set[str] = set()
        done: set[str] = set()
        self.must_seal[name] = False
        for segment in segments:
            if segment.name.partition(".")[0] != f"{len(hashes):012d}":
                self.faults.append(f"{name}: segment {segment.stem}")
            *lines, tail = self.content(segment).split(b"\n")
            first, is_pruned = len(hashes), segment.suffix == ".pruned"
            for line in lines:
                if is_pruned and re.fullmatch(rb"[0-9a-f]{64}", line):
                    hashes.append(bytes.fromhex(line.decode()))
                    prev = None
                    continue
                members = self.line(line)
                seq = len(hashes)
                where = (members.get("prev"), members.get("seq"), members.get("chain"))
                known = members.get("prev") if prev is None else prev
                if where != (known, seq, name) or kind == "chain.closed":
                    self.faults.append(f"{name} {seq}: not the record that belongs here")
                kind = str(members.get("kind"))
                if (kind == "chain.opened") != (seq == 0):
                    self.faults.append(f"{name} {seq}: opens in the wrong place")
                if kind == "egress.intent":
                    intents.add(str(members["id"]))
                    self.has_intent.add(name)
                if kind == "egress.outcome":
                    intent = str(members.get("intent_id"))
                    if intent not in intents or intent in done:
                        self.faults.append(f"{name} {seq}: an outcome of no open intent")
                    done.add(intent)
                self.must_seal[name] = kind == "chain.closed" and members.get("reason") == "stop"
                known = members.get("sealed")
                self.known_head = max(self.known_head, known if isinstance(known, int) else -1)
                if kind.startswith("retention."):
                    self.retention.append((name, seq, members))
                hashes.append(sha(b"\x00" + line))
                prev = sha(line).hex()
            if is_pruned:
                where_ = (name, first, len(hashes))
                self.removed.append((where_, f"sha256:{sha(segment.read_bytes()).hex()}"))
            if tail and (segment is not segments[-1] or kind == "chain.closed"):
                self.faults.append(f"{name}: bytes after the last line")

    def line(self, line: bytes) -> dict[str, Any]:
        body, mark, _ = line.rpartition(b',"sum":"')
        if not mark or line != body + mark + sha(body).hex()[:16].encode() + b'"}':
            self.faults.append("a line does not add up to its sum")
            return {}
        members: dict[str, Any] = json.loads(line)
        if members.get("v") != 1:
            self.faults.append("a record of another version")
        return members

    def read_keys(self, paths: list[Path]) -> None:
        prev, public = ZEROS, b""
        for number, path in enumerate(paths):
            note = path.read_bytes()
            match = EPOCH.fullmatch(note.decode("utf-8", "replace").rpartition("\n\n")[0] + "\n")
            if path.name != f"{number:06d}.note" or match is None:
                self.faults.append(f"key {number}: missing, or of another form")
                return
            name, told, key_name, key_id, key, first, before = match.groups()
            raw = base64.b64decode(key)
            self.name = self.name or name
            signer = public if number else raw[1:]
            told_id = sha(name.encode() + b"\n" + raw)[:4].hex()
            is_next = (int(told), before, key_name, key_id) == (number, prev, name, told_id)
            in_order = not self.keys or int(first) >= self.keys[-1][0]
            if holds(note, self.name, signer) is None or not is_next or not in_order:
                self.faults.append(f"key {number}: not introduced by the one before")
                return
            public, prev = raw[1:], sha(note).hex()
            self.keys.append((int(first), public))

    def heads(self, notes: dict[int, bytes]) -> None:
        prev, tree, sealed, is_whole = ZEROS, list[bytes](), dict[str, int](), True
        newest = max(notes, default=-1)
        for index in range(newest + 1):
            note = notes.get(index)
            if note is None:
                self.faults.append(f"checkpoint {index} is missing")
                continue
            head = self.head(note, index)
            if head is None or head[5] != prev:
                self.faults.append(f"checkpoint {index}: not signed in its place")
            prev = sha(note).hex()
            for _, chain, first, end in (
                run.split(" ") for run in (head or [""] * 7)[6].splitlines()
            ):
                part = self.leaves.get(chain, [])[int(first) : int(end)]
                is_next = int(first) == sealed.get(chain, 0) < int(end)
                if not is_next or len(part) != int(end) - int(first):
                    self.faults.append(f"checkpoint {index}: records of {chain} are not all there")
                    is_whole = False
                sealed[chain] = int(end)
                if head is not None:
                    time = re.search(rb"\ntime ([^\n]+)\n", note)
                    place = (int(first), int(end), len(tree), (time or [b"", b""])[1].decode())
                    self.seals.setdefault(chain, []).append(place)
                tree += part
            is_same = head and (int(head[1]), head[2]) == (
                len(tree),
                base64.b64encode(root_of(tree)).decode(),
            )
            if is_whole and head and not is_same:
                self.faults.append(f"checkpoint {index}: another tree than the records stored")
                is_whole = False
        if self.known_head > newest:
            self.faults.append(f"checkpoint {self.known_head}, which a record names, is missing")
        for chain, hashes in self.leaves.items():
            num_sealed = sealed.get(chain, 0)
            if chain in self.has_intent and not num_sealed:
                self.faults.append(f"{chain}: no checkpoint knows it")
            if self.must_seal[chain] and num_sealed < len(hashes) and not self.closing(chain):
                self.faults.append(f"{chain}: stopped, and its last checkpoint is missing")

    def sealed(self, chain: str, seq: int) -> tuple[int, str] | None:
        """Leaf and time of the checkpoint of a record."""
        for first, end, leaf, time in self.seals.get(chain, []):
            if first <= seq < end:
                return leaf + seq - first, time
        return None

    def removals(self) -> None:
        """What is removed is on a sealed record, was old enough, and was not on hold."""
        events = sorted(
            (place[0], members["kind"], members["time"], members["detail"])
            for chain, seq, members in self.retention
            if (place := self.sealed(chain, seq)) is not None
        )
        for (chain, first, end), digest in self.removed:
            holds: dict[str, tuple[str, str, str]] = {}
            verdict = "and no record says so"
            for _, kind, time, said in events:
                if kind == "retention.hold":
                    told = (said.get("from", ""), said.get("to", "9"), said.get("app", ""))
                    holds[said["hold"]] = told
                elif kind == "retention.release":
                    holds.pop(said["hold"], None)
                elif (said["of"], said["first"], said["end"]) == (chain, first, end):
                    if said["file"] != digest:
                        continue
                    sealed = self.sealed(chain, end - 1)
                    least = datetime.fromisoformat(f"{said['before']}+00:00")
                    recorded = datetime.fromisoformat(time)
                    is_due = (
                        recorded - least >= timedelta(days=max(said["days"], 0) - 1)
                        and said["days"] >= 0
                    )
                    is_old = sealed is not None and sealed[1][:19] < said["before"] and is_due
                    is_held = any(
                        not app and said["from"] < until and said["to"] >= since
                        for since, until, app in holds.values()
                    )
                    verdict = "" if is_old and not is_held else "before their time, or on hold"
                    break
            if verdict:
                self.faults.append(f"{chain} {first}: records were removed, {verdict}")

    def closing(self, chain: str) -> bool:
        path = self.folder / "tlog" / "closing" / chain
        note = path.read_bytes() if path.is_file() else b""
        number = re.search(rb"\nindex (\d+)\n", note)
        head = self.head(note, int(number[1])) if number else None
        runs = head[6].splitlines() if head else []
        return any(run.split(" ")[1::2] == [chain, str(len(self.leaves[chain]))] for run in runs)

    def head(self, note: bytes, index: int) -> tuple[str, ...] | None:
        """The groups of a checkpoint that the key in force at ``index`` signed."""
        in_force = [at for at, (first, _) in enumerate(self.keys) if first <= index]
        text = holds(note, self.name, self.keys[in_force[-1]][1]) if in_force else None
        match = HEAD.fullmatch(text) if text else None
        if match is None or match[1] != self.name or int(match[4]) != index:
            return None
        return match.groups() if int(match[5]) == in_force[-1] else None


if __name__ == "__main__":
    found = Check(Path(sys.argv[1])).run()
    print("\n".join(found) or "sound")
    sys.exit(1 if found else 0)
