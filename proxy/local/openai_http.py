"""The client of the local tier: any OpenAI-compatible endpoint on our own premises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx2

from proxy.canonical import canonical_bytes, parse_object
from proxy.credentials import home_credentials
from proxy.errors import LocalBackendError, RequestError
from proxy.local.backend import CALLER
from proxy.local.live import MAX_ANSWER_BYTES, Asking, LocalStream, NotStreamed, Watch
from proxy.local.probe import UNPROBED, Abilities, Given, Reply, probe_abilities
from proxy.local.refusals import UNABLE, refusal
from proxy.local.stream import NotReadable, Reader
from proxy.routes.chat import CHAT
from proxy.routes.form import written
from proxy.routes.logprobs import NUM_TOP
from proxy.routes.registry import ROUTES
from proxy.routes.route import Raw
from proxy.settings import Settings
from proxy.types import JSON, Draft, JSONObject, Request

_PROBE_TIMEOUT_S: Final = 60.0

_JSON_TYPE: Final = "application/json"


class OpenAIHTTPBackend:
    """The `LocalBackend` over HTTP.

    Attributes:
        model: the name the endpoint is asked for, whatever the client asks for.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        tells_caller: bool = False,
    ) -> None:
        """An endpoint; ``tells_caller``: it is our own, and has callers take turns."""
        self.model = model
        self._tells_caller = tells_caller
        self._timeout_s = timeout_s
        self._abilities = UNPROBED
        self._wire = httpx2.AsyncClient(
            base_url=base_url,
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(timeout_s, connect=5.0),
            # The gate bounds the requests. A stream lasts as long as its client takes to read it:
            # those who do not read must not keep the others from the model.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
            follow_redirects=False,
            trust_env=False,
            # One connection serves all callers: no endpoint takes one for another by a cookie.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    @classmethod
    def of(
        cls,
        settings: Settings,
        base_url: str,
        model: str,
        patience_s: float = float("inf"),
        *,
        tells_caller: bool = False,
    ) -> OpenAIHTTPBackend:
        """An endpoint of the local tier, with the key and the patience of ``settings``, or less."""
        return cls(
            base_url,
            model,
            api_key=home_credentials(settings).of(base_url),
            timeout_s=min(settings.local_timeout_s, patience_s),
            tells_caller=tells_caller,
        )

    async def generate(self, request: Request) -> Draft:
        """Answer ``request``; see `LocalBackend`. Cancelling the call gives the answer up there."""
        started = time.perf_counter()
        home = ROUTES[request.route].at_home
        asked = self._body(home.ask(request.body))
        if ROUTES[request.route].form is not None:
            body, kind = await asyncio.to_thread(written, asked)
        else:
            body, kind = canonical_bytes(asked), _JSON_TYPE
        told = await self._post_in_time(request, body, kind)
        if isinstance(told, LocalBackendError):
            raise told
        return self._draft(told, request, started)

    async def generate_until(self, request: Request, doomed: Callable[[float], bool]) -> Draft:
        """Answer ``request``, or give it up; see `WatchedBackend`.

        The answer is read as a stream; where that cannot be, it is asked for whole.
        """
        if not self._can_watch(request):
            return await self.generate(request)
        started = time.perf_counter()
        asked = self._streamed(ROUTES[request.route].at_home.ask(request.body))
        told = await self._watch(asked, self._headers(request), doomed)
        if isinstance(told, LocalBackendError):
            raise told
        if told is None:
            return await self.generate(request)
        if isinstance(told, Draft):
            return _given_up(told, started)
        return self._draft(told, request, started)

    async def begin(self, request: Request, watch: Watch | None = None) -> Draft | LocalStream:
        """Answer ``request`` while the answer is written; see `FlowingBackend`."""
        if watch is not None and not self._can_watch(request):
            return await self.generate(request)
        started = time.perf_counter()
        home = ROUTES[request.route].at_home
        headers = self._headers(request)
        asked = home.ask(request.body)
        body = self._streamed(asked if watch is not None else _as_wished(asked, request.body))
        asking = Asking(home.path, canonical_bytes(body), headers, request, watch)
        try:
            told = await LocalStream.begin(self._wire, asking, self._timeout_s)
        except NotStreamed:
            return await self.generate(request)
        if isinstance(told, LocalStream):
            return told
        if isinstance(told, Draft):
            return _given_up(told, started)
        return self._draft(told, request, started)

    def _headers(self, request: Request | None, kind: str = _JSON_TYPE) -> dict[str, str]:
        headers = {"content-type": kind, "accept-encoding": "identity"}
        if request is not None and self._tells_caller:
            headers[CALLER] = request.caller.key_id
        return headers

    def _streamed(self, asked: JSONObject) -> JSONObject:
        return {**self._body(asked), "stream": True, "stream_options": {"include_usage": True}}

    def _can_watch(self, request: Request) -> bool:
        """Whether the endpoint is known to tell log-probabilities in streams of such answers."""
        body, can = request.body, self._abilities
        plain = not any(body.get(name) for name in ("tools", "functions", "audio"))
        one = body.get("n") in (None, 1)
        given = can.plain is Given.YES and can.with_stream is Given.YES
        return request.route == CHAT.name and plain and one and given

    async def _watch(
        self, body: JSONObject, headers: dict[str, str], doomed: Callable[[float], bool]
    ) -> JSONObject | Draft | LocalBackendError | None:
        """The answer; its beginning, where it was given up; None where it cannot be read."""
        reader, given_up = Reader(), False
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._wire.stream(
                    "POST",
                    "/chat/completions",
                    content=canonical_bytes(body),
                    headers=headers,
                ) as response:
                    if response.status_code != 200:
                        return None if response.status_code in UNABLE else _down()
                    num_bytes = 0
                    async for chunk in response.aiter_raw():
                        num_bytes += len(chunk)
                        if num_bytes > MAX_ANSWER_BYTES:
                            return _too_large()
                        for logprob in reader.feed(chunk):
                            if logprob is None:
                                return None
                            given_up = given_up or doomed(logprob)
                        if given_up:
                            return reader.so_far()
            return reader.whole()
        except NotReadable:
            return None
        except (TimeoutError, httpx2.TimeoutException):
            return _late()
        except httpx2.HTTPError:
            return _down()

    def _draft(self, told: JSONObject, request: Request, started: float) -> Draft:
        """The draft in an answer.

        Raises:
            LocalBackendError: it is none.
        """
        home = ROUTES[request.route].at_home
        reading = home.read(told)
        if reading is None:
            raise _other_form()
        if not self._abilities.logprobs_mean_something:
            reading = replace(reading, tokens=(), token_logprobs=(), top_logprobs=())
        usage = told.get("usage")
        return Draft(
            text=reading.text,
            tokens=reading.tokens,
            token_logprobs=reading.token_logprobs,
            finish_reason=reading.finish_reason,
            model=str(told.get("model")),
            body=home.answer(told, request.body),
            prompt_tokens=_count(usage, "prompt_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
            elapsed_ms=(time.perf_counter() - started) * 1000,
            top_logprobs=reading.top_logprobs,
        )

    def _body(self, asked: JSONObject) -> JSONObject:
        """What the endpoint is asked, with the log-probabilities that it gives and no others."""
        body: JSONObject = {**asked, "model": self.model}
        if body.get("logprobs") is not True:
            return body
        can = self._abilities
        if not (can.with_tools if body.get("tools") else can.plain).may_ask:
            return _as_wished(body, {})
        wished = body.get("top_logprobs")
        num_top = max(NUM_TOP if can.gives_top else 0, wished if isinstance(wished, int) else 0)
        return {**body, "top_logprobs": num_top} if num_top else body

    async def learn(self) -> Abilities | None:
        """Probe what the endpoint gives, and ask for that from now on; None where it is down."""
        abilities = await probe_abilities(self._ask, self.model)
        if abilities is not None:
            self._abilities = abilities
        return abilities

    async def _ask(self, body: JSONObject) -> Reply:
        """One probing request; status 0 where nobody answered in time."""
        try:
            async with asyncio.timeout(min(self._timeout_s, _PROBE_TIMEOUT_S)):
                told = await self._send(
                    "/chat/completions", canonical_bytes(body), self._headers(None)
                )
        except TimeoutError:
            return Reply(0, b"")
        return Reply(0, b"") if isinstance(told, LocalBackendError) else told

    async def probe(self) -> bool:
        """Whether the endpoint answers."""
        return await self.knock() == 200

    async def knock(self) -> int:
        """The status with which the endpoint lists its models; 0 where nobody answers in time."""
        try:
            return (await self._wire.get("/models", timeout=2.0)).status_code
        except httpx2.HTTPError:
            return 0

    async def aclose(self) -> None:
        """Close every connection."""
        await self._wire.aclose()

    async def _post_in_time(
        self, request: Request, body: bytes, kind: str
    ) -> JSONObject | LocalBackendError:
        """`_post` under one limit for the whole: a server that dribbles is late too."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(request, body, kind)
        except TimeoutError:
            return _late()

    async def _post(
        self, request: Request, body: bytes, kind: str
    ) -> JSONObject | LocalBackendError:
        home = ROUTES[request.route].at_home
        told = await self._send(home.path, body, self._headers(request, kind))
        if isinstance(told, LocalBackendError):
            return told
        if told.status != 200:
            return refusal(told.status, told.body, request, home.missing)
        if home.taken is not None:
            answer = await asyncio.to_thread(home.taken, Raw(told.media_type, told.body))
            return answer or _other_form()
        try:
            return parse_object(told.body)
        except RequestError:
            return LocalBackendError("The local model sent an answer that is not JSON.")

    async def _send(
        self, path: str, body: bytes, headers: dict[str, str]
    ) -> Reply | LocalBackendError:
        """The reply; a fault comes back as a value, so that it has no context that holds text."""
        try:
            async with self._wire.stream(
                "POST",
                path,
                content=body,
                headers=headers,
            ) as response:
                payload = bytearray()
                async for chunk in response.aiter_raw():
                    payload += chunk
                    if len(payload) > MAX_ANSWER_BYTES:
                        return _too_large()
                kind = response.headers.get("content-type", "")
                return Reply(response.status_code, bytes(payload), kind)
        except httpx2.TimeoutException:
            return _late()
        except httpx2.HTTPError:
            return _down()


def _as_wished(asked: JSONObject, body: JSONObject) -> JSONObject:
    """``asked`` with the log-probabilities that the client of ``body`` wants, and no others."""
    if body.get("logprobs") not in (None, False):
        return asked
    without = ("logprobs", "top_logprobs")
    return {name: value for name, value in asked.items() if name not in without}


def _given_up(begun: Draft, started: float) -> Draft:
    """The beginning of a draft that is made no further."""
    elapsed_ms = (time.perf_counter() - started) * 1000
    return replace(begun, text="", finish_reason="cut", elapsed_ms=elapsed_ms, is_cut=True)


def _down() -> LocalBackendError:
    return LocalBackendError("The local model could not be reached.")


def _too_large() -> LocalBackendError:
    return LocalBackendError("The local model sent too large an answer.")


def _other_form() -> LocalBackendError:
    return LocalBackendError("The local model sent an answer of another form.")


def _late() -> LocalBackendError:
    return LocalBackendError("The local model did not answer in time.")


def _count(usage: JSON, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0
