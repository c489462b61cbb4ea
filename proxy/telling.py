"""What is told of an answer when it is given, or when one that flows has ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import structlog

from proxy.metrics import Metrics
from proxy.types import JSON, Decision, Inspection, Request, Response

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """What came of an answer that flowed: a word where it broke off, and what it took."""

    error_type: str | None
    usage: JSON


class Answered(Protocol):
    """What is known of a request that was answered; `proxy.flow.Flow` is one."""

    @property
    def request(self) -> Request:
        """The request."""

    @property
    def inspection(self) -> Inspection:
        """What was found in it."""

    @property
    def decision(self) -> Decision:
        """What was decided."""

    @property
    def started(self) -> float:
        """When it came, by `time.perf_counter`."""


def tell(
    metrics: Metrics, flow: Answered, response: Response, end: StreamEnd | None = None
) -> None:
    """Count an answer and log its one line; ``end`` is that of a local one that flowed."""
    if end is not None:
        metrics.streamed(end.error_type, end.usage)
    metrics.answered(response)
    log.info(
        "answered",
        decision_id=response.decision_id,
        app=flow.request.caller.app,
        action=flow.decision.action.value,
        route=response.route.target.value,
        reason=response.route.reason.value,
        degraded=response.route.degraded,
        findings=len(flow.inspection.findings),
        unscannable=len(flow.inspection.unscannable),
        confidence=response.confidence.score if response.confidence else None,
        http_status=response.http_status,
        error_type=end.error_type if end is not None else None,
        elapsed_ms=round((time.perf_counter() - flow.started) * 1000, 1),
    )
