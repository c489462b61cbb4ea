"""The local tier: each route at its endpoint, and no model in another one's place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demo.stand_in_cloud import StandInCloud
from proxy.errors import LocalBackendError
from proxy.local.backend import CALLER
from proxy.local.live import LocalStream
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.local.tier import LocalTier
from proxy.settings import load_settings
from proxy.types import JSONObject, Request
from tests.factories import a_request
from tests.proxy.local.test_openai_http import Endpoint, an_answer, endpoint

VECTORS: JSONObject = {
    "model": "small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.5]}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}


def to_embed(model: str) -> Request:
    return replace(a_request({"model": model, "input": "hi", "user": "u1"}), route="embeddings")


async def ask(request: Request, words: Endpoint, vectors: Endpoint) -> JSONObject:
    async with words.running() as here, vectors.running() as there:
        tier = LocalTier(
            OpenAIHTTPBackend(here, "home"), {"embeddings": OpenAIHTTPBackend(there, "small")}
        )
        try:
            return (await tier.generate(request)).body
        finally:
            await tier.aclose()


@pytest.mark.parametrize("model", ["ringfence", "small"])
async def test_vectors_come_from_the_endpoint_for_vectors(model: str) -> None:
    words, vectors = endpoint(an_answer()), endpoint(VECTORS)
    assert await ask(to_embed(model), words, vectors) == VECTORS
    assert (words.bodies, vectors.bodies) == ([], [{"input": "hi", "model": "small"}])


async def test_words_come_from_the_endpoint_for_words() -> None:
    words, vectors = endpoint(an_answer()), endpoint(VECTORS)
    await ask(a_request(), words, vectors)
    assert (len(words.bodies), vectors.bodies) == (1, [])


async def test_the_vectors_of_another_model_are_not_made_up() -> None:
    words, vectors = endpoint(an_answer()), endpoint(VECTORS)
    with pytest.raises(LocalBackendError) as caught:
        await ask(to_embed("text-embedding-3-small"), words, vectors)
    assert (caught.value.unable, caught.value.code) == (True, "unsupported_by_local")
    assert "text-embedding" not in caught.value.public_message
    assert (words.bodies, vectors.bodies) == ([], [])


@pytest.mark.parametrize("ours", [True, False], ids=["the embedded server", "an endpoint"])
async def test_only_the_embedded_server_is_told_whose_turn_it_is(ours: bool) -> None:
    with StandInCloud() as server:
        env = {} if ours else {"RINGFENCE_LOCAL_BASE_URL": server.base_url}
        tier = LocalTier.of(load_settings(env), server.base_url)
        try:
            await tier.generate(a_request())
            begun = await tier.begin(a_request())
            assert not isinstance(begun, LocalStream)  # it answers in one piece
        finally:
            await tier.aclose()
    told = [dict(request.headers).get(CALLER) for request in server.requests]
    assert told == ["k1" if ours else None] * 2
