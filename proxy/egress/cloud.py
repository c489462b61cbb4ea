"""The cloud tier: one attempt at a destination, through the `openai` SDK and over our own door.

The SDK's retries, redirects and environment proxies are off. Its exceptions carry the whole
request; none of them travels past this file, not even as ``__context__``.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

import httpx2
import openai

from audit.permit import Permit
from proxy.canonical import parse_object
from proxy.egress.transport import Attempt, Door
from proxy.errors import CloudError, EgressDenied, RequestError
from proxy.routes.route import Abroad
from proxy.types import JSON, Destination, Outcome

#: More tokens than any answer has; a destination may write any number.
_MAX_TOKENS: Final = 2**24


class CloudBackend(Protocol):
    """Sends one body to one destination, once."""

    async def complete(
        self, body: bytes, destination: Destination, permit: Permit, call: Abroad
    ) -> Outcome:
        """Send ``body`` as it is, as the ``call`` that its route makes.

        Raises:
            CloudError: no usable answer; holds no text of either side.
            EgressDenied: the permit is not for these bytes or this destination.
        """
        ...


class OpenAICloud:
    """The `CloudBackend` for every OpenAI-compatible destination."""

    def __init__(self, door: Door, *, api_key: str, timeout_s: float) -> None:
        self._door = door
        self._api_key = api_key
        self._timeout_s = timeout_s

    async def complete(
        self, body: bytes, destination: Destination, permit: Permit, call: Abroad
    ) -> Outcome:
        """Send ``body`` to ``destination`` under ``permit``; see `CloudBackend`."""
        started = time.perf_counter()
        attempt = Attempt(permit)
        result = await self._post(body, destination, attempt, call.path)
        if isinstance(result, CloudError):
            result.provider_request_id = attempt.provider_request_id
        if isinstance(result, CloudError | EgressDenied):
            raise result
        status, payload = result
        try:
            answer = parse_object(payload)
        except RequestError:
            answer = None
        if answer is None or not call.is_answer(answer):
            fault = CloudError(
                "The cloud model sent an answer of another form.",
                error_type="garbage",
                upstream_status=status,
                sent="yes",
            )
            fault.provider_request_id = attempt.provider_request_id
            raise fault
        tokens_in, tokens_out = _usage(answer.get("usage"))
        return Outcome(
            status=status,
            body=answer,
            model=str(answer.get("model", "")),
            prompt_tokens=tokens_in or 0,
            completion_tokens=tokens_out or 0,
            counted=bool(tokens_in) and tokens_out is not None,
            bytes_sent=len(body),
            bytes_received=attempt.bytes_received,
            elapsed_ms=(time.perf_counter() - started) * 1000,
            payload=payload,
            provider_request_id=attempt.provider_request_id,
        )

    async def _post(
        self, body: bytes, destination: Destination, attempt: Attempt, path: str
    ) -> tuple[int, bytes] | CloudError | EgressDenied:
        """Post through the SDK; a fault comes back as a value, so that it has no context."""
        async with httpx2.AsyncClient(
            transport=self._door.transport(attempt), trust_env=False, follow_redirects=False
        ) as wire:
            client = openai.AsyncOpenAI(
                api_key=self._api_key,
                base_url=destination.base_url,
                organization="",
                project="",
                max_retries=0,
                timeout=self._timeout_s,
                http_client=wire,
            )
            try:
                response = await client.post(
                    path,
                    cast_to=httpx2.Response,
                    content=body,
                    options={"headers": {"content-type": "application/json"}},
                )
                return response.status_code, response.content
            except openai.APIStatusError as error:
                return _status_fault(error.status_code)
            except openai.APITimeoutError:
                return CloudError(
                    "The cloud model did not answer in time.",
                    error_type="timeout",
                    sent="unknown" if attempt.wrote else "no",
                    http_status=504,
                )
            except openai.APIConnectionError as error:
                if isinstance(error.__cause__, EgressDenied):
                    return EgressDenied(error.__cause__.public_message)
                return CloudError(
                    "The cloud model could not be reached.",
                    error_type="connection",
                    sent="unknown" if attempt.wrote else "no",
                )
            except openai.OpenAIError:
                return CloudError(
                    "The cloud model could not be used.", error_type="sdk", sent="unknown"
                )


def _status_fault(status: int) -> CloudError:
    if 300 <= status < 400:
        return CloudError(
            "The cloud model answered with a redirect, which is never followed.",
            error_type="redirect",
            upstream_status=status,
            sent="yes",
        )
    return CloudError(
        f"The cloud model answered with status {status}.",
        error_type="status_4xx" if status < 500 else "status_5xx",
        upstream_status=status,
        sent="yes",
    )


def _usage(usage: JSON) -> tuple[int | None, int | None]:
    """Tokens in and out; None: not told. An embedding has none out, and says so in the total."""
    tokens_in = _count(usage, "prompt_tokens", "input_tokens")
    tokens_out = _count(usage, "completion_tokens", "output_tokens")
    if tokens_out is None and tokens_in is not None:
        total = _count(usage, "total_tokens")
        tokens_out = total - tokens_in if total is not None and total >= tokens_in else None
    return tokens_in, tokens_out


def _count(usage: JSON, *names: str) -> int | None:
    """A count by the first of its ``names`` that is there; the routes do not agree on one."""
    found = [usage.get(name) for name in names] if isinstance(usage, dict) else []
    numbers = (value for value in found if isinstance(value, int) and not isinstance(value, bool))
    return next((value for value in numbers if 0 <= value <= _MAX_TOKENS), None)
