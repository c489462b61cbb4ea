"""One question to a running proxy, the way an app would ask it; for `ringfence ask`."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx2

from proxy.canonical import canonical_bytes, parse_object
from proxy.errors import LocalBackendError, RequestError
from proxy.types import JSONObject


@dataclass(frozen=True, slots=True)
class Told:
    """What the proxy said, and why it was the one to say it."""

    ok: bool
    text: str = field(repr=False)
    explanation: str


def ask(url: str, api_key: str, question: str, *, model: str, max_tokens: int) -> Told:
    """Ask the proxy at ``url`` (without ``/v1``).

    Raises:
        LocalBackendError: no proxy answers there.
    """
    body = canonical_bytes(
        {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": max_tokens,
        }
    )
    response = None
    try:
        with httpx2.Client(trust_env=False, timeout=300) as wire:
            response = wire.post(
                f"{url}/v1/chat/completions",
                content=body,
                headers={
                    "content-type": "application/json",
                    "authorization": f"Bearer {api_key}",
                },
            )
        answer = parse_object(response.content)
    except (httpx2.HTTPError, httpx2.InvalidURL, RequestError):
        answer = {}
    if response is None or not answer:
        raise LocalBackendError(f"No proxy answers at {url}. Start one with `ringfence serve`.")
    return Told(response.status_code == 200, _text(answer), _explain(response))


def _text(answer: JSONObject) -> str:
    match answer:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return text
        case {"error": {"message": str(text), "code": code}}:
            return f"{text} ({code})"
    return "(no text)"


def _explain(response: httpx2.Response) -> str:
    said = response.headers
    parts = [f"decision {said.get('x-ringfence-decision-id', '-')}"]
    for name in ("route", "reason", "confidence", "threshold"):
        if value := said.get(f"x-ringfence-{name}"):
            parts.append(f"{name} {value}")
    if len(parts) == 1:
        parts.append("route not shown: set RINGFENCE_EXPOSE_ROUTE_HEADERS=true on the proxy")
    return " · ".join(parts)
