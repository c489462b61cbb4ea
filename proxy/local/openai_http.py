"""The client of the local tier: any OpenAI-compatible endpoint on our own premises."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from typing import Final

import httpx2

from proxy.canonical import canonical_bytes, parse_object
from proxy.errors import LocalBackendError, RequestError
from proxy.types import JSON, Draft, JSONObject, Request

#: What concerns a provider's bookkeeping and not the answer; local servers refuse some of it.
_DROPPED: Final = frozenset(
    "stream stream_options store user metadata safety_identifier service_tier prompt_cache_key "
    "prompt_cache_retention".split()
)

_MAX_ANSWER_BYTES: Final = 32 * 2**20

#: How far above 0 a log-probability may be by rounding alone.
_ROUNDING: Final = 1e-6

#: Statuses that say "not this request", as against "not now".
_UNABLE: Final = frozenset({400, 404, 413, 415, 422})


class OpenAIHTTPBackend:
    """The `LocalBackend` over HTTP."""

    def __init__(
        self, base_url: str, model: str, *, api_key: str | None = None, timeout_s: float = 120.0
    ) -> None:
        self._model = model
        self._timeout_s = timeout_s
        self._wire = httpx2.AsyncClient(
            base_url=base_url,
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(timeout_s, connect=5.0),
            follow_redirects=False,
            trust_env=False,
        )

    async def generate(self, request: Request) -> Draft:
        """Answer ``request``; see `LocalBackend`. Cancelling the call gives the answer up there."""
        started = time.perf_counter()
        kept = {name: value for name, value in request.body.items() if name not in _DROPPED}
        body = canonical_bytes({**kept, "model": self._model, "logprobs": True})
        answer = await self._post_in_time(body)
        if isinstance(answer, LocalBackendError):
            raise answer
        draft = _draft(answer, (time.perf_counter() - started) * 1000)
        if draft is None:
            raise LocalBackendError("The local model sent an answer that is no chat completion.")
        if request.body.get("logprobs") is not True:
            draft = _without_logprobs(draft)
        return draft

    async def probe(self) -> bool:
        """Whether the endpoint answers."""
        try:
            return (await self._wire.get("/models", timeout=2.0)).status_code == 200
        except httpx2.HTTPError:
            return False

    async def aclose(self) -> None:
        """Close every connection."""
        await self._wire.aclose()

    async def _post_in_time(self, body: bytes) -> JSONObject | LocalBackendError:
        """`_post` under one limit for the whole: a server that dribbles is late too."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(body)
        except TimeoutError:
            return _late()

    async def _post(self, body: bytes) -> JSONObject | LocalBackendError:
        """The answer; a fault comes back as a value, so that it has no context that holds text."""
        try:
            async with self._wire.stream(
                "POST",
                "/chat/completions",
                content=body,
                headers={"content-type": "application/json", "accept-encoding": "identity"},
            ) as response:
                status = response.status_code
                payload = bytearray()
                async for chunk in response.aiter_raw():
                    payload += chunk
                    if len(payload) > _MAX_ANSWER_BYTES:
                        return LocalBackendError("The local model sent too large an answer.")
        except httpx2.TimeoutException:
            return _late()
        except httpx2.HTTPError:
            return LocalBackendError("The local model could not be reached.")
        if status != 200:
            return _refusal(status)
        try:
            return parse_object(bytes(payload))
        except RequestError:
            return LocalBackendError("The local model sent an answer that is not JSON.")


def _late() -> LocalBackendError:
    return LocalBackendError("The local model did not answer in time.")


def _refusal(status: int) -> LocalBackendError:
    if status in _UNABLE:
        return LocalBackendError(
            "The local model cannot serve this request.", unable=True, code="unsupported_by_local"
        )
    return LocalBackendError(f"The local model answered with status {status}.")


def _draft(answer: JSONObject, elapsed_ms: float) -> Draft | None:
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return None
    content = message.get("content")
    tokens, logprobs = _logprobs(choice.get("logprobs"))
    usage = answer.get("usage")
    return Draft(
        text=content if isinstance(content, str) else "",
        tokens=tokens,
        token_logprobs=logprobs,
        finish_reason=str(choice.get("finish_reason")),
        model=str(answer.get("model")),
        body=answer,
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        elapsed_ms=elapsed_ms,
    )


def _logprobs(value: JSON) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Tokens and their log-probabilities; none at all where any of them is not to be trusted."""
    content = value.get("content") if isinstance(value, dict) else None
    tokens: list[str] = []
    logprobs: list[float] = []
    for entry in content if isinstance(content, list) else ():
        logprob = entry.get("logprob") if isinstance(entry, dict) else None
        if isinstance(logprob, bool) or not isinstance(logprob, int | float):
            return (), ()
        if not math.isfinite(logprob) or logprob > _ROUNDING:
            return (), ()
        tokens.append(str(entry.get("token")) if isinstance(entry, dict) else "")
        logprobs.append(min(float(logprob), 0.0))
    if len(logprobs) > 1 and not any(logprobs):
        return (), ()  # the mark of a server that takes `logprobs` and fills in zeros
    return tuple(tokens), tuple(logprobs)


def _without_logprobs(draft: Draft) -> Draft:
    """The draft as a client that asked for no log-probabilities gets it."""
    choices = draft.body.get("choices")
    stripped = [
        {**choice, "logprobs": None} if isinstance(choice, dict) else choice
        for choice in (choices if isinstance(choices, list) else ())
    ]
    return replace(draft, body={**draft.body, "choices": stripped})


def _count(usage: JSON, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0
