"""One valid value of each type, for tests to vary."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from proxy.inspection.entities import category_of
from proxy.types import (
    JSON,
    Action,
    Caller,
    Confidence,
    Coverage,
    Decision,
    Destination,
    Draft,
    Finding,
    Inspection,
    JSONObject,
    OnLocalFailure,
    Origin,
    Request,
    Role,
    Segment,
    Transfer,
)

CLEAN = "Name the longest river in Europe."


def a_destination(base_url: str = "https://cloud.example/v1") -> Destination:
    transfer = Transfer("Example Ltd", "IE", "intra_eea", "zero", training=False)
    return Destination("eu", "openai", base_url, ("gpt-4o-mini", "gpt-4o"), "eu", transfer)


def a_decision(
    action: Action = Action.ALLOW,
    *,
    destinations: tuple[Destination, ...] | None = None,
    on_local_failure: OnLocalFailure = OnLocalFailure.REFUSE,
) -> Decision:
    return Decision(
        decision_id="dec_" + "0" * 28,
        action=action,
        rules=(),
        policy_digest="sha256:" + "0" * 64,
        policy_revision=1,
        destinations=(a_destination(),) if destinations is None else destinations,
        on_local_failure=on_local_failure,
        allow_unrecorded_local=False,
    )


def a_body(text: JSON = CLEAN, **more: Any) -> JSONObject:
    return {"model": "ringfence", "messages": [{"role": "user", "content": text}], **more}


def a_request(body: JSONObject | None = None) -> Request:
    body = a_body() if body is None else body
    return Request(
        request_id="req_" + "0" * 28,
        caller=Caller("app", "team", "test", "k1"),
        route="chat.completions",
        model=str(body["model"]),
        body=body,
        stream=bool(body.get("stream")),
        received_at=datetime.now(UTC),
    )


def a_finding(entity: str = "PERSON", score: float = 0.9, segment: int = 0) -> Finding:
    return Finding(entity, category_of(entity), segment, 0, 4, score, "test")


def an_inspection(*findings: Finding, texts: tuple[str, ...] = (CLEAN,)) -> Inspection:
    segments = tuple(
        Segment(index, f"messages[{index}].content", Role.USER, Origin.VALUE, text=text)
        for index, text in enumerate(texts)
    )
    coverage = Coverage(len(texts), len(texts), 0, 0)
    return Inspection(segments, findings, (), coverage, ("en",), (("test", "1"),), 1.0)


def a_draft(text: str = "The Volga.", logprobs: tuple[float, ...] = (-0.1, -0.3)) -> Draft:
    body: JSONObject = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
    }
    return Draft(text, tuple(text.split()), logprobs, "stop", "local", body, 5, 2, 10.0)


def a_confidence(score: float | None = -0.2, threshold: float = -0.6) -> Confidence:
    return Confidence(score, threshold, "mean_logprob")
