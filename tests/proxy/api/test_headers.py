"""The custom headers, and their page."""

from __future__ import annotations

from pathlib import Path

from proxy.api.headers import (
    CONFIDENCE,
    DECISION_ID,
    OPEN_HEADERS,
    SCOPED_HEADERS,
    answer_headers,
)
from proxy.types import Confidence, Response, Route, RouteReason, Target

ROUTE = Route(Target.LOCAL, RouteReason.CONFIDENT)
RESPONSE = Response("dec_1", 200, {}, ROUTE, Confidence(-0.2, -0.6, "mean_logprob"))


def test_only_the_decision_is_shown_to_all() -> None:
    assert answer_headers(RESPONSE, expose_route=False) == {DECISION_ID: "dec_1"}


def test_the_scope_shows_route_and_confidence() -> None:
    shown = answer_headers(RESPONSE, expose_route=True)
    assert set(shown) == {DECISION_ID, *SCOPED_HEADERS}
    assert shown[CONFIDENCE] == "-0.2000"


def test_an_unknown_confidence_is_left_out() -> None:
    unknown = Response("dec_1", 200, {}, ROUTE, Confidence(None, -0.6, "mean_logprob"))
    assert CONFIDENCE not in answer_headers(unknown, expose_route=True)


def test_the_page_shows_every_header_with_its_meaning() -> None:
    page = (Path(__file__).parents[3] / "docs" / "headers.md").read_text()
    for name, meaning in {**OPEN_HEADERS, **SCOPED_HEADERS}.items():
        assert f"| `{name}` | {meaning} |" in page
