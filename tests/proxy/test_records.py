"""From values to records: counts, scores and codes pass; text, paths and offsets do not."""

from __future__ import annotations

from dataclasses import asdict, replace
from decimal import Decimal

import pytest

from audit.permit import Permit, mint
from audit.record import RoleRecord
from proxy.errors import CloudError, EgressDenied
from proxy.prices import Price
from proxy.records import decision_record, intent_record, outcome_record
from proxy.types import (
    JSONObject,
    Outcome,
    Role,
    Route,
    RouteReason,
    Target,
    Unscannable,
    UnscannableReason,
)
from tests.factories import (
    a_confidence,
    a_decision,
    a_destination,
    a_finding,
    a_request,
    an_inspection,
)

HOME = Route(Target.LOCAL, RouteReason.PINNED)
CANARY = "canary-4711"


def test_a_decision_holds_counts_and_no_text() -> None:
    findings = (a_finding(score=0.5), a_finding(score=0.75, segment=1), a_finding("IBAN_CODE"))
    inspection = an_inspection(*findings, texts=(CANARY, CANARY + " again"))
    segments = (replace(inspection.segments[0], role=Role.SYSTEM), inspection.segments[1])
    inspection = replace(
        inspection,
        segments=segments,
        unscannable=(Unscannable(0, UnscannableReason.IMAGE),) * 2,
    )
    body: JSONObject = {"model": "ringfence", CANARY: CANARY}
    record = decision_record(
        a_request(body), inspection, a_decision(), (HOME, a_confidence()), (("inspection", 1.5),)
    )
    assert CANARY not in repr(record)
    person, iban = sorted(record.entities, key=lambda entry: entry.entity, reverse=True)
    assert (person.entity, person.count, person.max_score) == ("PERSON", 2, 0.75)
    assert person.roles == (RoleRecord("system", 1, 0.5), RoleRecord("user", 1, 0.75))
    assert (iban.entity, iban.category, iban.count) == ("IBAN_CODE", "financial", 1)
    assert record.coverage.unscannable == (("image", 2),)
    assert (record.routing.route, record.routing.reason) == ("local", "pinned")
    assert (record.routing.score, record.routing.threshold) == (-0.2, -0.6)
    assert record.latency_ms == (("inspection", 1.5),)


@pytest.mark.parametrize(
    ("base_url", "address", "port"),
    [
        ("https://cloud.example/v1", "cloud.example", 443),
        ("http://127.0.0.1/v1", "127.0.0.1", 80),
        ("https://cloud.example:8443/v1", "cloud.example", 8443),
    ],
)
def test_an_intent_names_where_it_goes(base_url: str, address: str, port: int) -> None:
    record = intent_record(a_decision(), a_destination(base_url), "gpt-4o-mini", 3)
    assert (record.address, record.port, record.region) == (address, port, "eu")
    assert (record.model, record.strings_cleared, record.attempt) == ("gpt-4o-mini", 3, 1)
    assert asdict(record.transfer)["basis"] == "intra_eea"


@pytest.fixture
def permit() -> Permit:
    """A permit like the ledger's."""
    return mint(ids=("int_1", "dec_1", 1), body=b"{}", origin="https://cloud.example:443")


def an_outcome(body: JSONObject) -> Outcome:
    return Outcome(200, body, "gpt-4o-mini", 7, 3, 120, 240, 12.5)


def ended(reason: object) -> JSONObject:
    return {"choices": [{"finish_reason": reason, "message": {"content": CANARY}}]}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (ended("length"), "length"),
        (ended(CANARY), "other"),
        (ended(None), None),
        ({"choices": []}, None),
        ({}, None),
    ],
    ids=["known", "unknown", "null", "no choice", "nothing"],
)
def test_an_answer_is_an_outcome_of_numbers_and_codes(
    permit: Permit, body: JSONObject, reason: str | None
) -> None:
    record = outcome_record(permit, an_outcome(body), "gpt-4o-mini")
    assert (record.sent, record.status, record.error_type) == ("yes", 200, None)
    assert (record.prompt_tokens, record.completion_tokens) == (7, 3)
    assert record.finish_reason == reason
    assert CANARY not in repr(record)


PRICE = Price(input=Decimal("0.03"), output=Decimal("0.06"))


def test_a_cost_is_told_where_price_and_tokens_are_known_and_never_guessed(permit: Permit) -> None:
    counted = replace(an_outcome({}), counted=True)
    failed = CloudError("Failed.", error_type="timeout", sent="unknown")
    unsent = CloudError("Failed.", error_type="connection", sent="no")

    def cost(result: Outcome | CloudError | EgressDenied, price: Price | None) -> float | None:
        return outcome_record(permit, result, "gpt-4o-mini", price).cost_usd

    assert cost(counted, PRICE) == 0.00039
    assert cost(counted, None) is None
    assert cost(an_outcome({}), PRICE) is None
    assert cost(failed, PRICE) is None
    assert (cost(unsent, None), cost(EgressDenied("No."), None)) == (0.0, 0.0)


def test_a_fault_of_the_cloud_says_what_is_known(permit: Permit) -> None:
    fault = CloudError("Failed.", error_type="timeout", upstream_status=None, sent="unknown")
    record = outcome_record(permit, fault, "gpt-4o")
    assert (record.sent, record.status, record.error_type) == ("unknown", None, "timeout")


def test_what_the_door_refused_was_not_sent(permit: Permit) -> None:
    record = outcome_record(permit, EgressDenied("No."), "gpt-4o")
    assert (record.sent, record.error_type) == ("no", "refused")


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("gpt-4o-0613", "gpt-4o-0613"),
        ("gpt-4o-mini", "other"),
        (CANARY, "other"),
        (f"gpt-4o-{CANARY}", "other"),
        ("gpt-4o-2024-08-06-2024-08-06", "other"),
        ("", "other"),
    ],
)
def test_names_the_answering_model_only_if_it_is_the_one_asked(
    permit: Permit, named: str, kept: str
) -> None:
    record = outcome_record(permit, replace(an_outcome({}), model=named), "gpt-4o")
    assert record.model == kept
