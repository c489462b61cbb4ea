"""What a ledger says to the question whether some kind of datum left: counts, gaps, coverage.

Everything is taken from sealed lines alone, in their order, so that whoever holds the ledger comes
to the same evidence. It answers for what was recorded and never for what detection missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from audit.chain import read_line
from audit.checkpoint import Head
from audit.gaps import gaps_between, pruned_heads
from audit.merkle import BadProof
from audit.replay import WAL, stored_heads
from audit.segments import numbered_lines

#: The families that findings have; other names are entities.
CATEGORIES: Final = frozenset(
    "identity contact financial health credential location special_category business other".split()
)

#: Most ids and gaps that are listed; the counts beside them are always whole.
MAX_LISTED: Final = 1000

Members = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """Did a request in which ``no_egress_of`` was found leave?

    Args:
        no_egress_of: a category, or the name of an entity.
        since: from this time on, as records write theirs; ``until`` is not included.
        region: only egresses to this region; None: to any.
        masked_may_leave: values that were all replaced before they left do not count.
    """

    no_egress_of: str
    since: str
    until: str
    region: str | None = None
    masked_may_leave: bool = False

    def matches(self, decision: Members) -> dict[str, int]:
        """How often each entity of the question was found."""
        return {
            str(entry["entity"]): int(entry["count"])
            for entry in decision["entities"]
            if isinstance(entry, dict) and self.no_egress_of in (entry["entity"], entry["category"])
        }

    def covers(self, members: Members) -> bool:
        """Whether a record falls into the period."""
        return self.since <= str(members["time"]) < self.until


@dataclass(slots=True)
class Evidence:
    """The answer, as it stands in a statement."""

    violations: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    seen: bool = False
    records: int = 0
    decisions: int = 0
    egresses: int = 0
    not_sent: int = 0
    elsewhere: int = 0
    masked: int = 0
    destinations: Counter[str] = field(default_factory=Counter)
    policies: Counter[str] = field(default_factory=Counter)
    detectors: Counter[str] = field(default_factory=Counter)
    lowest_coverage: float = 1.0
    gaps: list[dict[str, str]] = field(default_factory=list)
    num_gaps: int = 0

    @property
    def holds(self) -> bool:
        """Whether no such egress is on record, and each one tells what was found in it."""
        return not (self.violations or self.undecided)

    def as_json(self) -> dict[str, Any]:
        """As JSON objects, lists cut and their lengths told."""
        told: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in ("violations", "undecided"):
            told[f"num_{name}"] = len(told[name])
            told[name] = sorted(told[name])[:MAX_LISTED]
        for name in ("destinations", "policies", "detectors"):
            told[name] = dict(sorted(told[name].items()))
        return told


def collect(ledger: Path, question: Question, upto: int | None = None) -> tuple[Evidence, Head]:
    """The evidence up to checkpoint ``upto`` (None: the newest), and that checkpoint.

    Raises:
        BadProof: nothing is sealed, or the checkpoint is not there.
        BadLine: a sealed line is not what was written.
        OSError: the ledger cannot be read.
    """
    heads = [head for head in stored_heads(ledger) if upto is None or head.index <= upto]
    if not heads or (upto is not None and heads[-1].index != upto):
        raise BadProof("the ledger does not hold the checkpoint, or has none")
    evidence = Evidence()
    walk = _Walk(question, evidence)
    for records in sealed_chains(ledger, heads):
        for members in records:
            walk.take(members)
    walk.end()
    pruned = pruned_heads(ledger, heads)
    gaps = gaps_between(heads, question.since, question.until, pruned)
    evidence.gaps, evidence.num_gaps = gaps[:MAX_LISTED], len(gaps)
    return evidence, heads[-1]


class _Walk:
    """Follows what was decided and what then left, if need be in the next chain of a process."""

    def __init__(self, question: Question, evidence: Evidence) -> None:
        self._question = question
        self._evidence = evidence
        self._leaving: dict[str, Members] = {}
        self._intents: dict[str, Members] = {}

    def take(self, members: Members) -> None:
        """Read the next record."""
        evidence, is_covered = self._evidence, self._question.covers(members)
        evidence.records += is_covered
        match members["kind"]:
            case "decision":
                evidence.seen = evidence.seen or bool(self._question.matches(members))
                if members["routing"]["route"] == "cloud":
                    self._leaving[members["decision_id"]] = members
                if is_covered:
                    evidence.decisions += 1
                    evidence.policies[members["policy"]["digest"]] += 1
            case "egress.intent" if is_covered:
                self._intents[members["id"]] = members
            case "egress.outcome" if members["sent"] == "no":
                evidence.not_sent += self._intents.pop(members["intent_id"], None) is not None

    def end(self) -> None:
        """Count what left."""
        for intent in self._intents.values():
            self._count(intent)

    def _count(self, intent: Members) -> None:
        evidence = self._evidence
        evidence.destinations[f"{intent['destination']} ({intent['region']})"] += 1
        if self._question.region not in (None, intent["region"]):
            evidence.elsewhere += 1
            return
        evidence.egresses += 1
        decision = self._leaving.get(intent["decision_id"])
        coverage = decision["coverage"] if decision else {}
        share = share_read(coverage)
        evidence.lowest_coverage = min(evidence.lowest_coverage, share)
        if decision is None or share < 1.0 or coverage["unscannable"] or _is_cut(decision):
            evidence.undecided.append(intent["id"])
            return
        for name, version in decision["detectors"].items():
            evidence.detectors[f"{name} {version}"] += 1
        found = self._question.matches(decision)
        masked = intent["masked"]
        if found and all(masked.get(entity, 0) >= num for entity, num in found.items()):
            evidence.masked += 1
            found = {} if self._question.masked_may_leave else found
        if found:
            evidence.violations.append(intent["id"])


def _is_cut(decision: Members) -> bool:
    """Whether more kinds of entities were found than a record lists."""
    return any(not isinstance(entry, dict) for entry in decision["entities"])


def sealed_chains(ledger: Path, heads: Iterable[Head]) -> Iterator[Iterator[Members]]:
    """The records of each chain that ``heads``, from the first on, seal; in order.

    Raises (while it is walked):
        BadLine: a line is not what was written.
        OSError: the ledger cannot be read.
    """
    ends = {run.chain: run.end for head in heads for run in head.runs}
    for chain, end in sorted(ends.items()):
        yield (read_line(line) for _, line in numbered_lines(ledger / WAL / chain, end))


def share_read(coverage: Members) -> float:
    """The share of a request's strings that were read, or are words of the API; [0, 1]."""
    if not coverage:
        return 0.0
    seen = int(coverage["inspected"]) + int(coverage["structural"])
    return round(seen / int(coverage["strings"]), 6) if coverage["strings"] else 1.0
