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
from proxy.credentials import Credentials
from proxy.egress.live import Incoming
from proxy.egress.transport import Attempt, Door, ResponseTooLarge
from proxy.egress.usage import usage_of
from proxy.errors import CloudError, EgressDenied, RequestError
from proxy.routes.events import BrokenStream, EventReader
from proxy.routes.route import Abroad
from proxy.types import Destination, Outcome

#: What an answer that comes as events says of itself.
_EVENTS: Final = "text/event-stream"


class CloudBackend(Protocol):
    """Sends one body to one destination, once."""

    def has_key(self, destination: Destination) -> bool:
        """Whether there is a key for ``destination``; without one nothing can be sent there."""
        ...

    async def complete(
        self, body: bytes, destination: Destination, permit: Permit, call: Abroad
    ) -> Outcome:
        """Send ``body`` as it is, as the ``call`` that its route makes.

        Raises:
            CloudError: no usable answer; holds no text of either side.
            EgressDenied: the permit is not for these bytes or this destination.
        """
        ...

    async def stream(
        self,
        body: bytes,
        destination: Destination,
        permit: Permit,
        call: Abroad,
        incoming: Incoming,
    ) -> Outcome:
        """Send ``body`` as `complete` does; an answer of events goes to ``incoming`` as it comes.

        What breaks off once ``incoming`` has begun is an outcome that says so (``cut_by``). A
        destination that answers in one piece all the same is taken as `complete` takes it.
        """
        ...


class OpenAICloud:
    """The `CloudBackend` for every OpenAI-compatible destination."""

    def __init__(self, door: Door, *, credentials: Credentials, timeout_s: float) -> None:
        self._door = door
        self._credentials = credentials
        self._timeout_s = timeout_s

    def has_key(self, destination: Destination) -> bool:
        """Whether there is a key for ``destination``; see `CloudBackend`."""
        return self._credentials.of(destination.base_url) is not None

    async def complete(
        self, body: bytes, destination: Destination, permit: Permit, call: Abroad
    ) -> Outcome:
        """Send ``body`` to ``destination`` under ``permit``; see `CloudBackend`."""
        return await self._complete(body, destination, Attempt(permit), call, None)

    async def stream(
        self,
        body: bytes,
        destination: Destination,
        permit: Permit,
        call: Abroad,
        incoming: Incoming,
    ) -> Outcome:
        """Send ``body`` and pass the answer on as it comes; see `CloudBackend`."""
        return await self._complete(body, destination, Attempt(permit), call, incoming)

    async def _complete(
        self,
        body: bytes,
        destination: Destination,
        attempt: Attempt,
        call: Abroad,
        incoming: Incoming | None,
    ) -> Outcome:
        started = time.perf_counter()
        result = await self._post(body, destination, attempt, call.path, incoming)
        if isinstance(result, CloudError):
            result.provider_request_id = attempt.provider_request_id
        if isinstance(result, CloudError | EgressDenied):
            raise result
        if isinstance(result, Outcome):
            return result
        status, payload = result
        try:
            answer = parse_object(payload)
        except RequestError:
            answer = None
        if answer is None or not call.is_answer(answer):
            fault = broken("garbage", status)
            fault.provider_request_id = attempt.provider_request_id
            raise fault
        tokens_in, tokens_out = usage_of(answer.get("usage"))
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
        self,
        body: bytes,
        destination: Destination,
        attempt: Attempt,
        path: str,
        incoming: Incoming | None,
    ) -> tuple[int, bytes] | Outcome | CloudError | EgressDenied:
        """Post through the SDK; a fault comes back as a value, so that it has no context."""
        async with httpx2.AsyncClient(
            transport=self._door.transport(attempt), trust_env=False, follow_redirects=False
        ) as wire:
            client = openai.AsyncOpenAI(
                api_key=self._credentials.of(destination.base_url) or "",
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
                    stream=incoming is not None,
                )
                return await _read(response, attempt, incoming, len(body))
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
            except httpx2.TransportError as error:  # while the SDK read what an error status says
                late = isinstance(error, httpx2.TimeoutException)
                return broken("timeout" if late else "connection", None)
            except openai.OpenAIError:
                return CloudError(
                    "The cloud model could not be used.", error_type="sdk", sent="unknown"
                )


async def _read(
    response: httpx2.Response, attempt: Attempt, incoming: Incoming | None, bytes_sent: int
) -> tuple[int, bytes] | Outcome | CloudError:
    """The answer in one piece, or what came of passing it on; a fault comes back as a value."""
    status = response.status_code
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    fault = None
    try:
        if incoming is None or kind != _EVENTS:
            return status, await response.aread()
        incoming.opened(status, attempt.provider_request_id)
        await _pass_on(response, incoming)
    except BrokenStream as error:
        fault = error.error_type
    except httpx2.TimeoutException:
        fault = "timeout"
    except ResponseTooLarge:
        fault = "too_large"
    except httpx2.TransportError:
        fault = "connection"
    finally:
        await response.aclose()
    if incoming is not None and (fault is None or incoming.begun.is_set()):
        return incoming.outcome(bytes_sent, fault)
    if kind == _EVENTS:
        return broken(fault or "connection", status)
    told = broken(fault or "connection", None)  # as where nobody asked for a stream
    told.sent = "unknown"
    return told


async def _pass_on(response: httpx2.Response, incoming: Incoming) -> None:
    """Pass the events of ``response`` on, up to the end of the answer.

    Raises:
        BrokenStream: it cannot be read on, or ended too soon.
        httpx2.TransportError: the connection broke.
    """
    reader = EventReader()
    async for data in response.aiter_raw():
        incoming.received(data)
        for event in reader.feed(data):
            if await incoming.take(event):
                await incoming.finish()
                return
    if not incoming.is_whole:
        raise BrokenStream("connection")
    await incoming.finish()


def broken(error_type: str, status: int | None) -> CloudError:
    """An answer that had begun, and is none."""
    said = {
        "garbage": "The cloud model sent an answer of another form.",
        "timeout": "The cloud model did not answer in time.",
        "upstream_error": "The cloud model told of an error in its answer.",
    }
    return CloudError(
        said.get(error_type, "The cloud model's answer broke off."),
        error_type=error_type,
        upstream_status=status,
        sent="yes",
        http_status=504 if error_type == "timeout" else None,
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
