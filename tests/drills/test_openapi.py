"""The published OpenAPI held against a real proxy: made-up requests, good and bad, on every route.

No status that is not listed, no error of another form or code; a 500 is listed nowhere. The proxy
stands in front of two stand-ins over HTTP, which are no models. About 100 requests by default;
``RINGFENCE_DRILL_OPENAPI=full`` for 20,000.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from demo.stand_in_cloud import StandInCloud
from proxy.api.gate import DOORS
from proxy.api.openapi import openapi_text
from tests.harness import RunningProxy, running_proxy

FULL = os.environ.get("RINGFENCE_DRILL_OPENAPI") == "full"
CASES = 20_000 if FULL else 100
MODELS = ["ringfence", "gpt-4o-mini", "unknown"]
CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


Operation = schemathesis.APIOperation[Any, Any, Any, Any]


def document() -> dict[str, Any]:
    """What is published, with models that are there: so requests come further than the door."""
    told: dict[str, Any] = json.loads(openapi_text())
    for operations in told["paths"].values():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                properties = content["schema"]["properties"]
                if "model" in properties:
                    properties["model"] = {"enum": MODELS}
                for name in ("stream_options", "top_logprobs"):  # each is refused without another
                    properties.pop(name, None)
    return told


def takes_something(operation: Operation) -> bool:
    """Whether its requests can differ."""
    found = (operation.path_parameters, operation.query, operation.headers)
    return bool(operation.body) or any(len(one) > 0 for one in found)


SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS: list[Operation] = [
    result.ok() for result in SCHEMA.get_all_operations() if isinstance(result, Ok)
]
#: Of a route that takes nothing there is one request.
EACH = -(-CASES // (sum(takes_something(one) for one in OPERATIONS) * len(GenerationMode)))


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    folder = tmp_path_factory.mktemp("openapi")
    with StandInCloud() as cloud, StandInCloud() as local:
        env = {"RINGFENCE_LOCAL_BASE_URL": local.base_url, "RINGFENCE_EXPOSE_METRICS": "true"}
        with running_proxy(folder, cloud.base_url, env) as running:
            yield running


def asks(operation: Operation, mode: GenerationMode, url: str) -> tuple[Counter[str], Counter[int]]:
    """What went wrong, and the statuses that came back, of ``EACH`` made-up requests."""
    faults: Counter[str] = Counter()
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=EACH,
        database=None,
        deadline=None,
        derandomize=not FULL,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=url, session=session, timeout=120)
        statuses[response.status_code] += 1
        try:
            case.validate_response(response, checks=CHECKS)
        except (Failure, FailureGroup) as error:
            faults[f"{error}"[:600]] += 1

    with requests.Session() as session:
        session.trust_env = False
        with contextlib.suppress(Unsatisfiable):  # of a request that takes nothing, none is bad
            ask()
    return faults, statuses


def test_the_document_holds_every_route_of_the_gate() -> None:
    told = {operation.definition.raw["operationId"] for operation in OPERATIONS}
    assert told == {door.name for door in DOORS}


@pytest.mark.slow
@pytest.mark.timeout(7200 if FULL else 300)
def test_no_route_answers_otherwise_than_it_says(proxy: RunningProxy) -> None:
    told: dict[str, Counter[str]] = {}
    total: Counter[int] = Counter()
    for operation in OPERATIONS:
        for mode in GenerationMode:
            faults, statuses = asks(operation, mode, proxy.url)
            total += statuses
            if faults:
                told[f"{operation.label} {mode.value}"] = faults
    print(f"{total.total()} requests: {dict(sorted(total.items()))}")
    assert told == {}
    assert total.total() >= CASES * 0.9
    assert proxy.process.poll() is None
