"""The records and their form.

Every string in a record is a code, an id made by us, or a name from our own configuration. Text of
a request or of a provider has no field to stand in; what comes from outside and is wanted all the
same (a model name in an answer) passes a pattern or becomes ``other``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, is_dataclass
from typing import ClassVar, Final

#: Longest lists that enter a record; a longer one is cut and says so in ``cut``.
MAX_ITEMS: Final = 128

#: The form of a name or code.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/@+*<>'-]{0,127}")

#: Six digits in a row are an identifier, not a name: no phone or card number slips in as one.
LONG_NUMBER: Final = re.compile(r"\d{6,}")

#: Ids and digests that we make hold long runs of digits by nature.
OWN_ID: Final = re.compile(
    r"(?:out_)?[a-z]{1,6}_[0-9a-f]{28}(?:_\d{1,12})?|end_c_[0-9a-f]{28}"
    r"|cal_[0-9a-f]{16}|sha256:[0-9a-f]{64}|hk-\d{4}-\d{2}:[0-9a-f]{64}"
)

#: Ids of requests that providers make. Source: OpenAI API reference, "Debugging requests"; UUIDs of
#: Azure OpenAI and others.
PROVIDER_ID: Final = re.compile(
    r"req_[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)


def name_or_other(value: str) -> str:
    """``value`` if it has the form of a name, else ``other``."""
    if NAME.fullmatch(value) and not LONG_NUMBER.search(value):
        return value
    return "other"


def provider_id_or_other(value: str | None) -> str | None:
    """``value`` if it has the form of a known provider's request id, else ``other``."""
    return value if value is None or PROVIDER_ID.fullmatch(value) else "other"


@dataclass(frozen=True, slots=True)
class CallerRecord:
    """Who asked, from our own key table."""

    app: str
    team: str
    environment: str
    key_id: str


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A rule that led to the decision."""

    id: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class ShadowRecord:
    """What a candidate policy would have said, where that differs."""

    digest: str
    action: str


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """The policy that decided and what it said."""

    digest: str
    revision: int
    action: str
    rules: tuple[RuleRecord, ...]
    shadow: ShadowRecord | None = None


@dataclass(frozen=True, slots=True)
class CoverageRecord:
    """What was really looked at: ``strings = inspected + structural + unscannable``."""

    strings: int
    inspected: int
    structural: int
    unscannable: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class RoleRecord:
    """How often an entity was found in the words of one role, and how surely."""

    role: str
    count: int
    max_score: float


@dataclass(frozen=True, slots=True)
class EntityRecord:
    """How often an entity was found, how surely, and in whose words."""

    entity: str
    category: str
    count: int
    max_score: float
    roles: tuple[RoleRecord, ...]


@dataclass(frozen=True, slots=True)
class RoutingRecord:
    """Where the answer came from and why."""

    route: str
    reason: str
    degraded: bool
    estimator: str | None
    score: float | None
    threshold: float | None
    calibration: str | None
    reasons: tuple[str, ...]
    derived_from: str | None


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One for every request, whatever became of it."""

    kind: ClassVar[str] = "decision"

    decision_id: str
    request_id: str
    api_route: str
    caller: CallerRecord
    policy: PolicyRecord
    coverage: CoverageRecord
    languages: tuple[str, ...]
    detectors: tuple[tuple[str, str], ...]
    entities: tuple[EntityRecord, ...]
    routing: RoutingRecord
    latency_ms: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class TransferRecord:
    """Whom data goes to and on which basis (GDPR Art. 30(1)(e))."""

    recipient: str
    country: str
    basis: str
    retention: str
    training: bool


@dataclass(frozen=True, slots=True)
class IntentRecord:
    """What is about to leave. The ledger adds the body's size and keyed digest."""

    kind: ClassVar[str] = "egress.intent"

    decision_id: str
    attempt: int
    destination: str
    provider: str
    address: str
    port: int
    region: str
    model: str
    transfer: TransferRecord
    strings_cleared: int
    masked: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ConfidenceRecord:
    """How sure a cloud's answer was, where another model could be asked for a better one."""

    estimator: str
    score: float | None
    threshold: float
    calibration: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutcomeRecord:
    """What came of an attempt. ``sent`` is ``no`` only if no byte was written."""

    kind: ClassVar[str] = "egress.outcome"

    intent_id: str
    decision_id: str
    attempt: int
    sent: str
    status: int | None
    error_type: str | None
    model: str | None
    finish_reason: str | None
    provider_request_id: str | None
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    restored: int
    unknown_placeholders: int
    marked_tool_calls: int
    answer_scan: str | None
    answer_entities: tuple[tuple[str, int], ...]
    confidence: ConfidenceRecord | None
    bytes_sent: int
    bytes_received: int
    latency_ms: float


@dataclass(frozen=True, slots=True)
class ReplayRecord:
    """An answer that was given again under its ``Idempotency-Key``: nothing was decided or sent.

    ``decision_id`` is the decision it repeats; None where the first request ended without one.
    """

    kind: ClassVar[str] = "replay"

    decision_id: str | None
    request_id: str
    api_route: str
    caller: CallerRecord
    status: int


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened to the proxy itself: ``start``, ``stop``, ``policy.loaded`` …"""

    kind: str
    detail: tuple[tuple[str, str | int | float | bool], ...]


Record = DecisionRecord | IntentRecord | OutcomeRecord | ReplayRecord | EventRecord


def fields_of(record: Record) -> dict[str, object]:
    """The members of ``record`` in their fixed order, with lists cut and names checked."""
    if isinstance(record, EventRecord):
        members: dict[str, object] = {"detail": dict(record.detail)}
    else:
        members = _members(record)
    if isinstance(record, DecisionRecord):
        coverage = _members(record.coverage)
        members["coverage"] = {**coverage, "unscannable": dict(record.coverage.unscannable)}
        members["detectors"] = dict(record.detectors)
        members["latency_ms"] = {name: round(ms, 3) for name, ms in record.latency_ms}
    if isinstance(record, OutcomeRecord):
        members["answer_entities"] = dict(record.answer_entities)
    if isinstance(record, IntentRecord):
        members["masked"] = dict(record.masked)
    checked = {name: _checked(value) for name, value in members.items()}
    if isinstance(record, OutcomeRecord):
        checked["provider_request_id"] = provider_id_or_other(record.provider_request_id)
    return checked


def _members(record: object) -> dict[str, object]:
    """The fields of a data class in order, those within it as they are."""
    names: tuple[str, ...] = type(record).__match_args__  # type: ignore[attr-defined]
    return {name: getattr(record, name) for name in names}


def _checked(value: object) -> object:
    if is_dataclass(value):
        return {name: _checked(member) for name, member in _members(value).items()}
    match value:
        case str():
            return name_or_other(value) if not _is_own_id(value) else value
        case dict():
            return {name_or_other(str(key)): _checked(member) for key, member in value.items()}
        case list() | tuple():
            kept = [_checked(member) for member in value[:MAX_ITEMS]]
            return kept if len(value) <= MAX_ITEMS else [*kept, f"cut:{len(value) - MAX_ITEMS}"]
        case _:
            return value


def _is_own_id(value: str) -> bool:
    return bool(OWN_ID.fullmatch(value))
