"""From the pipeline's values to the ledger's records; the only place that knows both.

Counts, scores and codes pass; text, paths and offsets do not.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from audit.permit import Permit
from audit.record import (
    CallerRecord,
    ConfidenceRecord,
    CoverageRecord,
    DecisionRecord,
    EntityRecord,
    IntentRecord,
    OutcomeRecord,
    PolicyRecord,
    RoleRecord,
    RoutingRecord,
    RuleRecord,
    ShadowRecord,
    TransferRecord,
)
from proxy.errors import CloudError, EgressDenied
from proxy.policy.shadow import Shadow
from proxy.prices import Price
from proxy.types import (
    Confidence,
    Decision,
    Destination,
    Finding,
    Inspection,
    JSONObject,
    Outcome,
    Request,
    Route,
)

#: Source: OpenAI API reference, chat completion object.
_FINISH_REASONS: Final = frozenset(
    {"stop", "length", "tool_calls", "content_filter", "function_call"}
)

Laps = tuple[tuple[str, float], ...]


def decision_record(
    request: Request,
    inspection: Inspection,
    decision: Decision,
    outcome: tuple[Route, Confidence | None],
    laps: Laps,
    shadow: Shadow | None = None,
) -> DecisionRecord:
    """The one record that every request leaves behind."""
    caller = request.caller
    return DecisionRecord(
        decision_id=decision.decision_id,
        request_id=request.request_id,
        api_route=request.route,
        caller=CallerRecord(caller.app, caller.team, caller.environment, caller.key_id),
        policy=PolicyRecord(
            digest=decision.policy_digest,
            revision=decision.policy_revision,
            action=decision.action.value,
            rules=tuple(RuleRecord(rule.id, rule.file, rule.line) for rule in decision.rules),
            shadow=ShadowRecord(shadow.digest, shadow.action.value)
            if shadow is not None and shadow.differs
            else None,
        ),
        coverage=_coverage(inspection),
        languages=inspection.languages,
        detectors=inspection.detectors,
        entities=_entities(inspection),
        routing=_routing(decision, *outcome),
        latency_ms=laps,
    )


def intent_record(
    decision: Decision,
    destination: Destination,
    model: str,
    strings_cleared: int,
    masked: tuple[tuple[str, int], ...] = (),
    attempt: int = 1,
) -> IntentRecord:
    """What is about to leave, and where to. Its digest is the ledger's to make.

    Args:
        decision: the decision that lets it leave.
        destination: one of the decision's.
        model: the destination's model.
        strings_cleared: strings and long numbers of the body.
        masked: how many findings were replaced, by entity.
        attempt: number of the attempt under this decision, from 1.
    """
    url = urlsplit(destination.base_url)
    transfer = destination.transfer
    return IntentRecord(
        decision_id=decision.decision_id,
        attempt=attempt,
        destination=destination.id,
        provider=destination.provider,
        address=url.hostname or "",
        port=url.port or {"http": 80, "https": 443}[url.scheme],
        region=destination.region,
        model=model,
        transfer=TransferRecord(
            recipient=transfer.recipient,
            country=transfer.country,
            basis=transfer.basis,
            retention=transfer.retention,
            training=transfer.training,
        ),
        strings_cleared=strings_cleared,
        masked=masked,
    )


def outcome_record(
    permit: Permit,
    result: Outcome | CloudError | EgressDenied,
    asked: str,
    price: Price | None = None,
) -> OutcomeRecord:
    """What came of the attempt under ``permit`` at the model ``asked``, whose price it is."""
    outcome = result if isinstance(result, Outcome) else None
    fault = result if isinstance(result, CloudError) else None
    refused = isinstance(result, EgressDenied)
    scanned = outcome.scanned if outcome else None
    sent = "yes" if outcome else "no" if refused else fault.sent if fault else "unknown"
    return OutcomeRecord(
        intent_id=permit.intent_id,
        decision_id=permit.decision_id,
        attempt=permit.attempt,
        sent=sent,
        status=outcome.status if outcome else fault.upstream_status if fault else None,
        error_type=_error_type(result),
        model=_answering_model(outcome.model, asked) if outcome else None,
        finish_reason=_finish_reason(outcome.body) if outcome else None,
        provider_request_id=_provider_request_id(result),
        prompt_tokens=outcome.prompt_tokens if outcome else 0,
        completion_tokens=outcome.completion_tokens if outcome else 0,
        cost_usd=0.0 if sent == "no" else _cost(outcome, price),
        restored=outcome.restored.values if outcome else 0,
        unknown_placeholders=outcome.restored.unknown if outcome else 0,
        marked_tool_calls=outcome.restored.tool_calls if outcome else 0,
        answer_scan=scanned.verdict.value if scanned else None,
        answer_entities=scanned.entities if scanned else (),
        confidence=_confidence(outcome.confidence if outcome else None),
        bytes_sent=outcome.bytes_sent if outcome else 0,
        bytes_received=outcome.bytes_received if outcome else 0,
        latency_ms=outcome.elapsed_ms if outcome else 0.0,
    )


def _confidence(told: Confidence | None) -> ConfidenceRecord | None:
    if told is None:
        return None
    return ConfidenceRecord(
        told.estimator, told.score, told.threshold, told.calibration_id, told.doubts
    )


def _error_type(result: Outcome | CloudError | EgressDenied) -> str | None:
    if isinstance(result, CloudError):
        return result.upstream_error
    return result.cut_by if isinstance(result, Outcome) else "refused"


def _cost(outcome: Outcome | None, price: Price | None) -> float | None:
    """What an answer cost, in US dollars; None without its price or its number of tokens."""
    if outcome is None or price is None or not outcome.counted:
        return None
    return float(price.of(outcome.prompt_tokens, outcome.completion_tokens))


def _provider_request_id(result: Outcome | CloudError | EgressDenied) -> str | None:
    return None if isinstance(result, EgressDenied) else result.provider_request_id


def _answering_model(named: str, asked: str) -> str:
    """The model that an answer names: the one asked for or a dated version of it, else ``other``.

    A destination may put any text there. Source: OpenAI's names of snapshots, as gpt-4-0613 and
    gpt-4o-mini-2024-07-18.
    """
    return named if re.fullmatch(rf"{re.escape(asked)}(-\d{{4}}(-\d\d-\d\d)?)?", named) else "other"


def _finish_reason(answer: JSONObject) -> str | None:
    """Why the answer of a destination ended; what is none of OpenAI's words is ``other``."""
    match answer:
        case {"choices": [{"finish_reason": str(reason)}, *_]}:
            return reason if reason in _FINISH_REASONS else "other"
        case {"object": "response", "status": "completed"}:
            return "stop"
        case {"object": "response", "status": "incomplete"}:
            return "length"
    return None


def _coverage(inspection: Inspection) -> CoverageRecord:
    reasons = Counter(entry.reason.value for entry in inspection.unscannable)
    return CoverageRecord(
        strings=inspection.coverage.num_strings,
        inspected=inspection.coverage.num_inspected,
        structural=inspection.coverage.num_structural,
        unscannable=tuple(sorted(reasons.items())),
    )


def _entities(inspection: Inspection) -> tuple[EntityRecord, ...]:
    roles = {segment.index: segment.role.value for segment in inspection.segments}
    grouped = defaultdict(list)
    for finding in inspection.findings:
        grouped[finding.entity, finding.category.value].append(finding)
    return tuple(
        EntityRecord(
            entity=entity,
            category=category,
            count=len(found),
            max_score=max(finding.score for finding in found),
            roles=tuple(
                RoleRecord(role, len(scores), max(scores))
                for role, scores in _scores_by_role(found, roles)
            ),
        )
        for (entity, category), found in sorted(grouped.items())
    )


def _scores_by_role(
    found: Sequence[Finding], roles: Mapping[int, str]
) -> list[tuple[str, list[float]]]:
    scores: dict[str, list[float]] = defaultdict(list)
    for finding in found:
        scores[roles[finding.segment]].append(finding.score)
    return sorted(scores.items())


def _reasons(confidence: Confidence) -> tuple[str, ...]:
    return (*confidence.doubts, *(("cut_short",) if confidence.is_cut else ()))


def _routing(decision: Decision, route: Route, confidence: Confidence | None) -> RoutingRecord:
    return RoutingRecord(
        route=route.target.value,
        reason=route.reason.value,
        degraded=route.degraded,
        estimator=confidence.estimator if confidence else None,
        score=confidence.score if confidence else None,
        threshold=confidence.threshold if confidence else None,
        calibration=confidence.calibration_id if confidence else None,
        reasons=_reasons(confidence) if confidence else (),
        derived_from=decision.derived_from,
    )
