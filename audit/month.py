"""What a month's records say, in the order of a record of processing (GDPR Art. 30(1)).

Counts come from sealed lines of a ledger that was verified. Nothing here knows why data was
processed or for whom: that is the controller's to add.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audit.acts import WANT_REVIEW
from audit.checkpoint import Head
from audit.errors import AuditError
from audit.evidence import Members, sealed_chains, share_read
from audit.gaps import gaps_between, pruned_heads
from audit.replay import stored_heads
from audit.verify import verify

#: Where an answer came from, in the order in which it is shown.
WAYS = ("stayed", "left", "refused")

#: What happened to the proxy itself that belongs in the report.
_EVENTS = ("policy.loaded", "review", *WANT_REVIEW)


class NoReport(AuditError):
    """There is nothing to report on, or the ledger does not bear a report."""

    code = "no_report"


@dataclass(frozen=True, slots=True, order=True)
class Recipient:
    """To whom, where and on which basis (Art. 30(1)(d) and (e))."""

    destination: str
    provider: str
    recipient: str
    country: str
    region: str
    basis: str
    retention: str
    training: bool


@dataclass(slots=True)
class Transfers:
    """What one recipient got in the month; a request that was sent twice counts once."""

    requests: int = 0
    attempts: int = 0
    unknown: int = 0
    uninspected: int = 0
    bytes: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0  # attempts of which the cost is not known
    first: str = ""
    last: str = ""
    found: Counter[str] = field(default_factory=Counter)  # category: requests
    masked: Counter[str] = field(default_factory=Counter)  # those of them with all values masked


@dataclass(slots=True)
class Month:
    """The month's record."""

    name: str
    since: str
    until: str
    ledger: str = ""
    key: str = ""
    head: Head | None = None
    decisions: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    days: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    apps: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    stayed: Counter[str] = field(default_factory=Counter)  # category: requests that did not leave
    transfers: dict[Recipient, Transfers] = field(default_factory=lambda: defaultdict(Transfers))
    not_sent: int = 0
    given_again: int = 0  # answers that were replayed; nothing left for them
    lowest_coverage: float = 1.0
    policies: Counter[str] = field(default_factory=Counter)
    detectors: Counter[str] = field(default_factory=Counter)
    events: list[Members] = field(default_factory=list)
    gaps: list[dict[str, str]] = field(default_factory=list)

    @property
    def categories(self) -> list[str]:
        """Every category that was found, the most frequent first."""
        total = Counter(self.stayed)
        for row in self.transfers.values():
            total.update(row.found)
        return [name for name, _ in sorted(total.items(), key=lambda kv: (-kv[1], kv[0]))]

    @property
    def uninspected(self) -> int:
        """Egresses whose request was not inspected to its last string."""
        return sum(row.uninspected for row in self.transfers.values())


def month_of(name: str) -> tuple[str, str]:
    """First moment of the month ``name`` (as 2026-11) and of the next, as records write times.

    Raises:
        ValueError: it names no month.
    """
    first = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return f"{first:%Y-%m-%d}T00:00:00.000000Z", f"{following:%Y-%m-%d}T00:00:00.000000Z"


def read_month(ledger: Path, name: str) -> Month:
    """The record of the month ``name``, from a ledger that is verified first.

    Raises:
        NoReport: the ledger was changed, or nothing is sealed.
        ValueError: ``name`` is no month.
        OSError: the ledger cannot be read.
    """
    month = Month(name, *month_of(name))
    report = verify(ledger)
    if not report.is_sound:
        raise NoReport("the ledger was changed; run verify")
    heads = list(stored_heads(ledger))
    if not heads:
        raise NoReport("nothing is sealed yet")
    month.head, month.ledger, month.key = heads[-1], heads[-1].origin, report.key
    reader = Reader(month)
    for records in sealed_chains(ledger, heads):
        reader.read(records)
    reader.count()
    month.gaps = gaps_between(heads, month.since, month.until, pruned_heads(ledger, heads))
    month.events.sort(key=lambda members: str(members["time"]))
    return month


class Reader:
    """Reads all chains, then counts: what was decided, what left, what came of it."""

    def __init__(self, month: Month) -> None:
        self._month = month
        self._decisions: dict[str, Members] = {}
        self._intents: dict[str, Members] = {}
        self._outcomes: dict[str, Members] = {}
        self._found: dict[tuple[Recipient, str], dict[str, bool]] = {}  # request: category: masked

    def read(self, records: Iterator[Members]) -> None:
        """Take in the records of one chain."""
        month = self._month
        for members in records:
            is_covered = month.since <= str(members["time"]) < month.until
            match members["kind"]:
                case "decision" if is_covered or members["routing"]["route"] == "cloud":
                    self._decisions[members["decision_id"]] = members
                case "egress.intent" if is_covered:
                    self._intents[members["id"]] = members
                case "egress.outcome" if members["intent_id"] in self._intents:
                    self._outcomes[members["intent_id"]] = members
                case "replay" if is_covered:
                    month.given_again += 1
                case kind if is_covered and kind in _EVENTS:
                    month.events.append(members)

    def count(self) -> None:
        """Count what was read into the month."""
        month = self._month
        left = {intent["decision_id"] for intent in self._sent()}
        for (who, _), found in self._found.items():
            row = month.transfers[who]
            row.found.update(found.keys())
            row.masked.update(category for category, is_masked in found.items() if is_masked)
        for decision in self._decisions.values():
            if month.since <= str(decision["time"]) < month.until:
                self._decision(decision, has_left=decision["decision_id"] in left)

    def _sent(self) -> Iterator[Members]:
        """The intents of which a byte may have been written."""
        for intent in self._intents.values():
            outcome = self._outcomes.get(intent["id"], {"sent": "unknown"})
            if outcome["sent"] == "no":
                self._month.not_sent += 1
                continue
            self._transfer(intent, outcome)
            yield intent

    def _decision(self, decision: Members, *, has_left: bool) -> None:
        month = self._month
        month.decisions += 1
        refused = decision["routing"]["route"] == "refuse"
        way = "left" if has_left else "refused" if refused else "stayed"
        month.ways[way] += 1
        month.days[str(decision["time"])[:10]][way] += 1
        month.apps[decision["caller"]["app"]][way] += 1
        month.policies[decision["policy"]["digest"]] += 1
        for name, version in decision["detectors"].items():
            month.detectors[f"{name} {version}"] += 1
        if not has_left:
            month.stayed.update(list(_categories(decision)))

    def _transfer(self, intent: Members, outcome: Members) -> None:
        month, to = self._month, intent["transfer"]
        who = Recipient(
            *(intent["destination"], intent["provider"], to["recipient"], to["country"]),
            *(intent["region"], to["basis"], to["retention"], to["training"]),
        )
        row, request = month.transfers[who], (who, str(intent["decision_id"]))
        row.attempts += 1
        row.unknown += outcome["sent"] == "unknown"
        row.bytes += intent["body"]["bytes"]
        row.tokens += outcome.get("prompt_tokens", 0) + outcome.get("completion_tokens", 0)
        cost = outcome.get("cost_usd")
        row.cost_usd += cost or 0.0
        row.unpriced += cost is None
        row.first = min(row.first or intent["time"], intent["time"])
        row.last = max(row.last, intent["time"])
        decision: Any = self._decisions.get(intent["decision_id"])
        if request not in self._found:
            coverage = decision["coverage"] if decision else {}
            share = share_read(coverage)
            month.lowest_coverage = min(month.lowest_coverage, share)
            row.requests += 1
            row.uninspected += share < 1.0 or bool(coverage["unscannable"])
        found, masks = self._found.setdefault(request, {}), intent["masked"]
        for category, entities in _categories(decision).items() if decision else ():
            whole = all(masks.get(entity, 0) >= num for entity, num in entities.items())
            found[category] = found.get(category, True) and whole


def _categories(decision: Members) -> dict[str, dict[str, int]]:
    """Category: entity: number found."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for entry in decision["entities"]:
        if isinstance(entry, dict):  # a list that was cut says so in its last item
            found[entry["category"]][entry["entity"]] = entry["count"]
    return found
