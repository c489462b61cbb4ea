"""The door, against a real server: nothing passes without a permit for exactly these bytes."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from audit.permit import Permit, mint
from demo.stand_in_cloud import Recorded, Reply, StandInCloud
from proxy.egress.transport import MAX_RESPONSE_BYTES, Attempt, Door, origin_of
from proxy.errors import EgressDenied

BODY = b'{"model":"gpt-4o-mini","messages":[]}'


@pytest.fixture
def cloud() -> Iterator[StandInCloud]:
    with StandInCloud() as server:
        yield server


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    yield door
    await door.aclose()


def a_permit(cloud: StandInCloud, body: bytes = BODY) -> Permit:
    return mint(ids=("int_1", "dec_1", 1), body=body, origin=origin_of(cloud.base_url))


async def send(
    door: Door,
    permit: Permit,
    url: str,
    *,
    body: bytes = BODY,
    method: str = "POST",
    attempt: Attempt | None = None,
) -> httpx2.Response:
    attempt = attempt or Attempt(permit)
    async with httpx2.AsyncClient(transport=door.transport(attempt), trust_env=False) as wire:
        return await wire.request(
            method,
            f"{url}/chat/completions",
            content=body,
            headers={"x-canary": "canary", "authorization": "Bearer k", "cookie": "c=canary"},
        )


async def test_sends_what_the_permit_is_for(door: Door, cloud: StandInCloud) -> None:
    attempt = Attempt(a_permit(cloud))
    response = await send(door, attempt.permit, cloud.base_url, attempt=attempt)
    assert response.status_code == 200
    assert [request.body for request in cloud.requests] == [BODY]
    assert attempt.wrote
    assert attempt.bytes_received == len(response.content)
    assert b"canary" not in cloud.received


@pytest.mark.parametrize(
    ("body", "method"),
    [(BODY + b" ", "POST"), (b"", "POST"), (BODY, "PUT"), (BODY, "GET")],
    ids=["other bytes", "no bytes", "put", "get"],
)
async def test_refuses_what_the_permit_is_not_for(
    body: bytes, method: str, door: Door, cloud: StandInCloud
) -> None:
    with pytest.raises(EgressDenied):
        await send(door, a_permit(cloud), cloud.base_url, body=body, method=method)
    assert cloud.requests == []


async def test_refuses_another_origin(door: Door, cloud: StandInCloud) -> None:
    with StandInCloud() as other:
        with pytest.raises(EgressDenied):
            await send(door, a_permit(cloud), other.base_url)
        assert (cloud.requests, other.requests) == ([], [])


async def test_refuses_a_permit_that_was_used(door: Door, cloud: StandInCloud) -> None:
    permit = a_permit(cloud)
    await send(door, permit, cloud.base_url)
    with pytest.raises(EgressDenied):
        await send(door, permit, cloud.base_url)
    assert len(cloud.requests) == 1


async def test_follows_no_redirect(door: Door, cloud: StandInCloud) -> None:
    cloud.reply = lambda _: Reply(308, b"", (("location", f"{cloud.base_url}/elsewhere"),))
    assert (await send(door, a_permit(cloud), cloud.base_url)).status_code == 308
    assert len(cloud.requests) == 1


async def test_refuses_a_compressed_answer(door: Door, cloud: StandInCloud) -> None:
    bomb = gzip.compress(b"0" * 1_000_000)
    cloud.reply = lambda _: Reply(200, bomb, (("content-encoding", "gzip"),))
    with pytest.raises(httpx2.TransportError):
        await send(door, a_permit(cloud), cloud.base_url)


async def test_cuts_an_endless_answer(door: Door, cloud: StandInCloud) -> None:
    def endless(_: Recorded) -> Reply:
        return Reply(200, b"0" * (MAX_RESPONSE_BYTES + 1))

    cloud.reply = endless
    attempt = Attempt(a_permit(cloud))
    with pytest.raises(httpx2.TransportError):
        await send(door, attempt.permit, cloud.base_url, attempt=attempt)


@pytest.mark.parametrize(
    "variable", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"]
)
async def test_takes_no_proxy_from_the_environment(
    variable: str, cloud: StandInCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StandInCloud() as trap:
        monkeypatch.setenv(variable, trap.base_url.removesuffix("/v1"))
        door = Door()
        response = await send(door, a_permit(cloud), cloud.base_url)
        await door.aclose()
        assert response.status_code == 200
        assert trap.requests == []


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.Example.com/v1", "https://api.example.com:443"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("https://example.com:8443", "https://example.com:8443"),
    ],
)
def test_an_origin_always_names_its_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "https://user:pass@example.com", "gopher://x", "/v1"]
)
def test_what_is_no_destination_has_no_origin(url: str) -> None:
    with pytest.raises(EgressDenied):
        origin_of(url)
