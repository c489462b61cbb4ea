"""One question to a running proxy, the way an app would ask it; for `ringfence ask`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx2

from proxy.canonical import canonical_bytes, parse_object
from proxy.errors import LocalBackendError, RequestError
from proxy.types import JSONObject


@dataclass(frozen=True, slots=True)
class Told:
    """What the proxy said; ``route`` holds what it shows of route, reason and confidence."""

    ok: bool
    text: str = field(repr=False)
    decision_id: str
    route: Mapping[str, str]


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
    return Told(
        ok=response.status_code == 200,
        text=_text(answer),
        decision_id=response.headers.get("x-ringfence-decision-id", ""),
        route=_route(response.headers),
    )


def _text(answer: JSONObject) -> str:
    match answer:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return text
        case {"error": {"message": str(text), "code": code}}:
            return f"{text} ({code})"
    return "(no text)"


def _route(said: httpx2.Headers) -> dict[str, str]:
    names = ("route", "reason", "confidence", "threshold")
    return {name: value for name in names if (value := said.get(f"x-ringfence-{name}"))}
