"""What is done to a cloud's answer before anybody gets it: it is inspected, if policy asks so,
and scored, if another model could be asked.

It is inspected as it came, before values are put back into it: what was masked on its way out is no
finding. What was asked to be inspected and was not is withheld, and so is what cannot be taken out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from proxy.egress.mask import Masked, mask
from proxy.egress.restore import AnswerRestorer
from proxy.errors import CloudError, InspectionError
from proxy.routes.route import Reading, Scores
from proxy.types import (
    JSON,
    AnswerScan,
    Confidence,
    Draft,
    Finding,
    Inspection,
    JSONObject,
    Mask,
    MaskWith,
    Outcome,
    Restored,
    Scan,
    Scanned,
    UnscannableReason,
    Verdict,
)

log = structlog.get_logger()

#: Inspects a body with the detectors and recognizers of the policy in force.
Look = Callable[[JSONObject], Awaitable[Inspection]]

#: The members of an answer that say something; the others are ids, counts, and what was asked.
_SAYING: Final = ("choices", "output")

_FAILURES: Final = (UnscannableReason.DETECTOR_FAILED, UnscannableReason.DETECTOR_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Scoring:
    """How sure an answer is, and what of that its client sees.

    ``score`` is the rule; ``scores`` reads what it goes by, and hides what ``asked``, the client's
    body, does not ask for.
    """

    score: Callable[[Draft], Confidence]
    scores: Scores
    asked: JSONObject = field(repr=False)

    def of(self, answer: JSONObject) -> Confidence:
        """The confidence in an answer as it came."""
        told = self.scores.read(answer) or Reading()
        return self.score(
            Draft(
                told.text,
                told.tokens,
                told.token_logprobs,
                told.finish_reason,
                model="",
                body={},
                prompt_tokens=0,
                completion_tokens=len(told.tokens),
                elapsed_ms=0.0,
                top_logprobs=told.top_logprobs,
            )
        )


async def made_whole(
    outcome: Outcome,
    route: str,
    inspected: tuple[AnswerScan, Look] | None,
    masked: Masked | None,
    scoring: Scoring | None = None,
) -> Outcome | CloudError:
    """``outcome`` inspected, scored, and with the values of a masked request back in the answer.

    Args:
        outcome: the answer as it came.
        route: the API route that it answers.
        inspected: what is looked for, and how; None where policy asks for nothing.
        masked: the request, if it was masked.
        scoring: how sure it is; None where no other model could be asked.

    Returns:
        The outcome, whose `Scanned` says whether it may be given out; a fault of ours as a value.
    """
    came = outcome.body
    try:
        if inspected is not None:
            outcome = await _scanned(outcome, route, inspected, masked)
        if outcome.scanned is not None and outcome.scanned.withheld:
            return outcome
        if masked is not None:
            outcome = await _restored(outcome, masked)
        if scoring is not None:
            confidence = await asyncio.to_thread(scoring.of, came)
            shown = scoring.scores.hide(outcome.body, scoring.asked)
            outcome = replace(outcome, body=shown, confidence=confidence)
    except Exception as error:  # noqa: BLE001 - our own bug, but the intent must be closed
        log.error("answer_failed", error=error)
        return CloudError("The cloud's answer is of no use.", error_type="internal", sent="yes")
    return outcome


async def _restored(outcome: Outcome, masked: Masked) -> Outcome:
    restorer = AnswerRestorer(masked.vault)
    body = await asyncio.to_thread(restorer.answer, outcome.body)
    counts = Restored(restorer.num_restored, restorer.num_unknown, len(restorer.marked))
    return replace(outcome, body=body, restored=counts)


async def _scanned(
    outcome: Outcome, route: str, inspected: tuple[AnswerScan, Look], masked: Masked | None
) -> Outcome:
    scan, look = inspected
    body = outcome.body if scan.does is Scan.NOTE else _without_scores(outcome.body)
    said = {
        name: member for name, member in _without_scores(outcome.body).items() if name in _SAYING
    }
    if not said:  # vectors
        return outcome
    first = await _looked(said, look)
    if first is None:
        return replace(outcome, scanned=Scanned(Verdict.FAILED, withheld=True))
    found = _counted(first, scan, masked)
    entities = tuple(sorted(Counter(finding.entity for finding in found).items()))

    def told(verdict: Verdict, body: JSONObject = body, *, withheld: bool = False) -> Outcome:
        return replace(outcome, body=body, scanned=Scanned(verdict, entities, withheld))

    if first.unscannable:
        return told(Verdict.UNREAD, withheld=scan.does is not Scan.NOTE)
    if not found:
        return told(Verdict.CLEAN)
    if scan.does is Scan.NOTE:
        return told(Verdict.NOTED)
    if scan.does is Scan.REDACT:
        redacted = await _redacted(said, route, first, found)
        again = await _looked(redacted, look) if redacted is not None else None
        if redacted is not None and again is not None and not again.unscannable:
            if not _counted(again, scan, masked):
                return told(Verdict.REDACTED, {**body, **redacted})
    return told(Verdict.BLOCKED, withheld=True)


async def _redacted(
    said: JSONObject, route: str, inspection: Inspection, found: Sequence[Finding]
) -> JSONObject | None:
    """``said`` without what was found; None where it stands in a place that must stay."""
    masks = [Mask(finding, MaskWith.REDACT) for finding in found]
    done = await asyncio.to_thread(mask, said, inspection, masks, f"{route} answer")
    return None if done is None else done.body


async def _looked(said: JSONObject, look: Look) -> Inspection | None:
    """The inspection, or None where the detectors did not do their work."""
    try:
        inspection = await look(said)
    except InspectionError:
        return None
    failed = any(entry.reason in _FAILURES for entry in inspection.unscannable)
    return None if failed else inspection


def _counted(inspection: Inspection, scan: AnswerScan, masked: Masked | None) -> list[Finding]:
    """The findings that policy counts; what stands for values of the request is none."""
    if masked is not None:
        inspection = masked.without_placeholders(inspection)
    return [
        finding
        for finding in inspection.findings
        if finding.score >= scan.min_score and finding.entity in scan.entities
    ]


def _without_scores(body: JSONObject) -> dict[str, JSON]:
    """``body`` without log-probabilities: their tokens tell the text once more, in pieces."""
    return {name: _no_scores(name, member) for name, member in body.items()}


def _no_scores(name: str, value: JSON) -> JSON:
    if name == "logprobs":
        return [] if isinstance(value, list) else None
    if isinstance(value, dict):
        return _without_scores(value)
    return [_no_scores("", one) for one in value] if isinstance(value, list) else value
