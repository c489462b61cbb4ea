"""Whatever the cloud or the client does, the client gets an answer or an error of OpenAI's form.

And nothing is lost: each attempt has one intent and one outcome that tells what became of it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import httpx2
import pytest

from demo.stand_in_cloud import ANSWER, Reply, StandInCloud
from tests.harness import RunningProxy, running_proxy

pytestmark = pytest.mark.slow

QUESTION = "Name the longest river in Europe."
FAULTS: dict[str, tuple[Reply, str, str, int | None]] = {
    "4xx": (Reply(401, b'{"error":{"message":"canary-4711"}}'), "status_4xx", "yes", 401),
    "5xx": (Reply(503, b"canary-4711"), "status_5xx", "yes", 503),
    "garbage": (Reply(200, b"<html>canary-4711"), "garbage", "yes", 200),
    "calls nobody can read": (
        Reply(200, b'{"choices":[{"message":{"tool_calls":["canary-4711"]}}]}'),
        "garbage",
        "yes",
        200,
    ),
    "no answer in it": (Reply(200, b'{"choices":[]}'), "garbage", "yes", 200),
    "cut": (Reply(200, cut=True), "connection", "unknown", None),
    "timeout": (Reply(200, delay_s=4.0), "timeout", "unknown", None),
}


@pytest.fixture(scope="module")
def proxy(
    _cloud: StandInCloud, local_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    """A proxy that waits two seconds for the cloud."""
    env = {
        "RINGFENCE_LOCAL_BASE_URL": local_url,
        "RINGFENCE_EXPOSE_ROUTE_HEADERS": "true",
        "RINGFENCE_CLOUD_TIMEOUT_S": "2",
    }
    with running_proxy(tmp_path_factory.mktemp("faults"), _cloud.base_url, env) as running:
        yield running


def body(**more: object) -> bytes:
    message = {"role": "user", "content": QUESTION}
    return json.dumps(
        {"model": "ringfence", "messages": [message], "max_tokens": 4, **more}
    ).encode()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_draft_is_the_answer_when_the_cloud_fails(
    fault: str, stream: bool, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    reply, error_type, sent, status = FAULTS[fault]
    cloud.reply = lambda _: reply
    before = len(proxy.records("egress.intent"))
    response = proxy.post(body(stream=stream))
    assert response.status_code == 200
    assert b"canary" not in response.content
    assert ANSWER.encode() not in response.content
    if stream:
        assert response.content.rstrip().endswith(b"data: [DONE]")
    else:
        assert response.json()["choices"][0]["message"]["content"]
    assert len(cloud.requests) == 1
    assert len(proxy.records("egress.intent")) == before + 1
    told = proxy.records_once("egress.outcome", before + 1)
    assert len(told) == before + 1
    assert (told[-1]["error_type"], told[-1]["sent"], told[-1]["status"]) == (
        error_type,
        sent,
        status,
    )
    assert b"canary" not in proxy.everything_written()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_outcome_is_recorded_when_the_client_leaves_while_the_cloud_answers(
    stream: bool, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: Reply(delay_s=1.0)
    before = len(proxy.records("egress.intent"))
    data = body(stream=stream)
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data)
    )
    with socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2]))) as wire:
        wire.sendall(head + data)
        deadline = time.monotonic() + 20
        while not cloud.requests and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(cloud.requests) == 1
    assert (
        len(proxy.records_once("egress.outcome", before + 1))
        == len(proxy.records("egress.intent"))
        == before + 1
    )
    cloud.reply = lambda _: Reply()
    assert proxy.ask(QUESTION).choices[0].message.content == ANSWER


def test_a_cloud_that_is_gone_costs_the_draft_nothing(
    proxy: RunningProxy, local_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with StandInCloud() as gone:
        url = gone.base_url
    env = {"RINGFENCE_LOCAL_BASE_URL": local_url, "RINGFENCE_EXPOSE_ROUTE_HEADERS": "true"}
    with running_proxy(tmp_path_factory.mktemp("gone"), url, env) as alone:
        response = alone.post(body())
        assert response.status_code == 200
        assert response.headers["x-ringfence-degraded"] == "true"
        assert alone.records_once("egress.outcome", 1)[-1]["sent"] == "no"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/assistants", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("GET", "/", 404),
    ],
)
def test_another_route_is_refused_in_openais_form(
    method: str, path: str, status: int, proxy: RunningProxy
) -> None:
    wire = proxy.client.with_options(timeout=30)._client
    response = wire.request(method, f"{proxy.url}{path}", json={} if method == "POST" else None)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_fifty_megabytes_are_refused_and_the_next_request_is_served(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    big = b'{"model":"ringfence","messages":[{"role":"user","content":"%b"}]}' % (b"a" * 50 * 2**20)
    status = 413
    with contextlib.suppress(httpx2.TransportError):  # it may close before it has read it all
        status = proxy.post(big).status_code
    assert status == 413
    assert cloud.requests == []
    assert proxy.ask(QUESTION).choices[0].message.content == ANSWER
