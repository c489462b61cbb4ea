"""A signed statement with its evidence: "no request in which health was found left for the US".

The statement is a C2SP signed note under the ledger's key. It names a checkpoint, so that whoever
holds the ledger can come to the same evidence, and says what it cannot prove.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from audit.checkpoint import Head, head_path, text_of
from audit.epochs import check_epochs, present_signer, signed_head
from audit.errors import AuditError
from audit.evidence import CATEGORIES, Evidence, Question, collect
from audit.gaps import REMOVED, is_silent
from audit.merkle import BadProof
from audit.note import BadNote, read_verifier_key, sign, signed_text, verifier_key
from audit.stores.address import open_store
from audit.verify import verify

HEADING: Final = "ringfence-statement/v1"

#: What no statement can prove; part of each.
CANNOT_PROVE: Final = (
    "Integrity, not correctness: that detection found all there was. What no detector knows, or "
    "none recognized, is not counted.",
    "What happened outside of this proxy, and what a recipient did with what it got.",
    "The times are those of the machine's clock.",
    "For the gaps listed, the ledger does not speak.",
    "That the ledger was not put back as a whole to an earlier state: for that, compare with a "
    "checkpoint kept elsewhere (verify --not-older-than).",
)


class NotTrue(AuditError):
    """The statement is not true, or the ledger cannot bear it; ``evidence`` says why."""

    code = "statement_not_true"

    def __init__(self, message: str, evidence: Evidence | None = None) -> None:
        super().__init__(message)
        self.evidence = evidence


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement whose signatures hold."""

    content: dict[str, Any]
    head: Head

    @property
    def question(self) -> Question:
        """What it answers."""
        return Question(**self.content["question"])


def claim_of(question: Question) -> str:
    """The sentence that is signed."""
    where = f"for region {question.region}" if question.region else "for any destination"
    masked = " unless every such value was masked," if question.masked_may_leave else ""
    return (
        f"From {question.since} until before {question.until}, no request in which "
        f"{question.no_egress_of} was found left {where},{masked} and every request that left "
        "there was inspected to its last string. This says nothing of the gaps in the evidence."
    )


def attest(
    ledger: Path,
    keys_dir: Path,
    question: Question,
    *,
    unseen: bool = False,
    url: str | None = None,
) -> bytes:
    """The signed statement that ``question`` is answered with no.

    Args:
        ledger: the ledger's folder; all of it is verified first.
        keys_dir: where its signing key lives.
        question: what must not have left.
        unseen: state it of an entity too that this ledger never saw.
        url: the database that ``ledger`` is a copy of, if it is one.

    Raises:
        NotTrue: something of the kind left, an egress does not tell, the ledger is not sound, or it
            does not speak for any of that time.
        AuditError: nothing is sealed, or the key is missing.
        OSError: the ledger cannot be read.
    """
    report = verify(ledger)
    if not report.is_sound:
        raise NotTrue("the ledger was changed; run verify")
    evidence, head = collect(ledger, question)
    if is_silent(evidence.gaps, question.since, question.until) or _is_removed(evidence):
        raise NotTrue("the ledger does not speak for any of that time")
    if not (evidence.seen or unseen or question.no_egress_of in CATEGORIES):
        raise NotTrue(
            f"{question.no_egress_of} is no category, and no entity that this ledger ever saw: "
            "a mistake in writing would be true as well (--unseen to state it all the same)"
        )
    if not evidence.holds:
        raise NotTrue("the statement is not true", evidence)
    with contextlib.closing(open_store(url, ledger, keys_dir)) as store, store.locked():
        signer = present_signer(store, head.origin)
        notes = store.epoch_notes()[: signer.epoch.number + 1]
    content = {
        **_content(question, evidence, head),
        "proof": {
            "checkpoint": head_path(ledger, head.index).read_bytes().decode(),
            "keys": [note.decode() for note in notes],
        },
    }
    heading = f"{HEADING} {head.origin}\nepoch {signer.epoch.number}\n"
    statement = sign(f"{heading}{json.dumps(content, indent=1)}\n", head.origin, signer.key)
    check_statement(statement, report.key)  # none that fails is given out
    return statement


def is_statement(text: str) -> bool:
    """Whether ``text`` says that it is a statement."""
    return text.startswith(f"{HEADING} ")


def check_statement(note: bytes, key: str) -> Statement:
    """What a statement says to who holds ``key``, the ledger's first verifier key.

    Raises:
        BadNote: it, its checkpoint or a key is not signed as it should be.
        BadProof: it does not say what it should, or does not hold.
    """
    name, public = read_verifier_key(key)
    heading, epoch_line, body = (*text_of(note).split("\n", 2), "", "")[:3]
    number = epoch_line.removeprefix("epoch ")
    content = _read(body)
    epochs = check_epochs((one.encode() for one in content["proof"]["keys"]), name)
    if not epochs or epochs[0].public != public:
        raise BadNote(f"the first key is not {verifier_key(name, public)}")
    if heading != f"{HEADING} {name}" or number != str(epochs[-1].number):
        raise BadNote("not a statement under the newest of its keys")
    signed_text(note, name, epochs[-1].public)
    checkpoint = content["proof"]["checkpoint"].encode()
    index = content["range"]["checkpoint"]
    head = signed_head(checkpoint, index, epochs, name)
    statement = Statement(content, head)
    try:
        is_whole = content["range"] == _range(head) and content["claim"] == claim_of(
            statement.question
        )
    except TypeError:
        is_whole = False
    if not is_whole or content["cannot_prove"] != list(CANNOT_PROVE):
        raise BadProof("it does not say what a statement of this form says")
    found = content["evidence"]
    if content["holds"] is not True or found["num_violations"] or found["num_undecided"]:
        raise BadProof("it says of itself that it is not true")
    return statement


def rerun(ledger: Path, statement: Statement, key: str) -> list[str]:
    """Where ``ledger`` does not come to the evidence of ``statement``; empty: it does.

    Raises:
        AuditError: the ledger does not hold what the statement is over.
        OSError: the ledger cannot be read.
    """
    report = verify(ledger, key=key)
    if not report.is_sound:
        return [
            f"the ledger is not sound: {fault.file}: {fault.problem}" for fault in report.faults
        ]
    index = statement.head.index
    if head_path(ledger, index).read_bytes().decode() != statement.content["proof"]["checkpoint"]:
        return [f"the ledger's checkpoint {index} is another"]
    evidence, head = collect(ledger, statement.question, index)
    expected = _content(statement.question, evidence, head)
    differing = [name for name in expected if expected[name] != statement.content[name]]
    if differing and any(gap["why"] == REMOVED for gap in evidence.gaps):
        return ["records of that time were removed: this evidence cannot be come to any more"]
    return [f"{name} differs" for name in differing]


def _content(question: Question, evidence: Evidence, head: Head) -> dict[str, Any]:
    return {
        "claim": claim_of(question),
        "holds": evidence.holds,
        "question": asdict(question),
        "range": _range(head),
        "evidence": evidence.as_json(),
        "cannot_prove": list(CANNOT_PROVE),
    }


def _is_removed(evidence: Evidence) -> bool:
    """Whether records of the time were removed, and none of a request is left."""
    is_empty = not (evidence.decisions or evidence.destinations or evidence.not_sent)
    return is_empty and any(gap["why"] == REMOVED for gap in evidence.gaps)


def _range(head: Head) -> dict[str, Any]:
    return {
        "records": head.size,
        "root": head.root.hex(),
        "checkpoint": head.index,
        "sealed_until": head.time,
    }


def _read(body: str) -> dict[str, Any]:
    """The content of a statement, as far as its form goes."""
    try:
        content = json.loads(body)
        proof, range_, found = content["proof"], content["range"], content["evidence"]
        is_known = (
            set(content) == {*_CONTENT, "proof"}
            and all(isinstance(one, str) for one in (*proof["keys"], proof["checkpoint"]))
            and type(range_["checkpoint"]) is int
            and {type(found["num_violations"]), type(found["num_undecided"])} == {int}
        )
    except (ValueError, RecursionError, TypeError, KeyError):
        is_known = False
    if not is_known:
        raise BadProof("it is no statement of the known form")
    return dict(content)


_CONTENT: Final = ("claim", "holds", "question", "range", "evidence", "cannot_prove")
