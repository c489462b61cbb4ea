"""Sends the probes to the proxy under check, the way an app would, and keeps what it answers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

import httpx2

from proxy.canonical import canonical_bytes
from proxy.routes.form import written
from proxy.selfcheck.cells import Condition, Probe
from proxy.selfcheck.puts import HEADERS, QUERY
from proxy.selfcheck.recorder import Recorded
from proxy.selfcheck.traces import readable
from proxy.types import JSON, JSONObject

TIMEOUT_S: Final = 120.0
#: Requests under way at a time.
NUM_CLIENTS: Final = 4
#: Wait between two looks at a batch.
POLL_S: Final = 0.1
_FILE_ID: Final = re.compile(rb'"id"\s*:\s*"(file[\w-]+)"')
_BATCH_ID: Final = re.compile(rb'"id"\s*:\s*"(batch[\w-]+)"')
_OUTPUT_IDS: Final = re.compile(rb'"(?:output|error)_file_id"\s*:\s*"(file[\w-]+)"')
_ENDED: Final = re.compile(rb'"status"\s*:\s*"(?:completed|failed|expired|cancelled)"')
_BOUNDARY: Final = "ringfence-selfcheck-line"
_RESPONSE_ID: Final = re.compile(rb'"id"\s*:\s*"(resp[^"]+)"')


@dataclass(frozen=True, slots=True)
class Target:
    """The proxy under check: its root without ``/v1``, a key, and models to ask for.

    The second model, where there is one, is the cloud's own name for its model.
    """

    url: str
    key: str = field(repr=False, default="none")
    models: tuple[str, ...] = ("gpt-4o-mini",)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe got; no status: no answer. ``body`` and ``told`` (all of it) as readable."""

    probe: int
    status: int | None
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    told: bytes = field(repr=False, default=b"")
    body: bytes = field(repr=False, default=b"")


def send_all(
    target: Target, probes: Sequence[Probe], *, done: Callable[[], None] = lambda: None
) -> list[Answer]:
    """Send every probe, a few at a time; ``done`` is called after each."""
    local = threading.local()
    opened: list[httpx2.Client] = []

    def one(probe: Probe) -> list[Answer]:
        if not hasattr(local, "wire"):
            local.wire = httpx2.Client(trust_env=False, timeout=TIMEOUT_S)
            opened.append(local.wire)
        answers = list(_Sender(target, probe, local.wire).run())
        done()
        return answers

    try:
        with ThreadPoolExecutor(NUM_CLIENTS) as pool:
            return [answer for answers in pool.map(one, probes) for answer in answers]
    finally:
        for wire in opened:
            wire.close()


def as_recorded(probe: Probe, model: str) -> Recorded:
    """The request of a probe as it would arrive if nothing stood between."""
    path, headers, body = _request(probe, model)
    if probe.cell.condition is Condition.BATCH:
        return Recorded("/v1/files", headers, canonical_bytes(_line(path, body)))
    content, kind = _written(probe, body)
    return Recorded(path, {**headers, "content-type": kind}, content)


def _written(probe: Probe, body: JSONObject) -> tuple[bytes, str]:
    """A body as its route takes it, and its Content-Type."""
    if probe.cell.route.is_form:
        return written(body)
    return canonical_bytes(body), "application/json"


def _line(path: str, body: JSONObject) -> JSONObject:
    """A request as a line of a batch's file."""
    return {"custom_id": "line-1", "method": "POST", "url": path, "body": body}


def _request(probe: Probe, model: str) -> tuple[str, dict[str, str], JSONObject]:
    body = dict(probe.body(model))
    headers, query = _words(body.pop(HEADERS, None)), _words(body.pop(QUERY, None))
    path = f"/v1{probe.cell.route.path}" + (f"?{urlencode(query)}" if query else "")
    return path, headers, body


def _words(value: JSON) -> dict[str, str]:
    return {name: str(said) for name, said in value.items()} if isinstance(value, dict) else {}


class _Sender:
    """The requests of one probe, one after the other."""

    def __init__(self, target: Target, probe: Probe, wire: httpx2.Client) -> None:
        self._target, self._probe, self._wire = target, probe, wire
        self._model = target.models[-1 if probe.cell.condition is Condition.MODEL else 0]

    def run(self) -> Iterator[Answer]:
        path, headers, body = _request(self._probe, self._model)
        match self._probe.cell.condition:
            case Condition.STORED:
                yield from self._stored(path, headers, {**body, "store": True})
            case Condition.BATCH:
                yield from self._batch(path, body)
            case Condition.REPEAT | Condition.UPSTREAM:
                yield self._post(self._wire, path, headers, body)
                yield self._post(self._wire, path, headers, body)
            case Condition.CONNECTIONS:
                for _ in range(3):
                    with _fresh() as wire:
                        yield self._post(wire, path, headers, body)
            case _:
                yield self._post(self._wire, path, headers, body)

    def _stored(self, path: str, headers: dict[str, str], body: JSONObject) -> Iterator[Answer]:
        first = self._post(self._wire, path, headers, body)
        yield first
        if (found := _RESPONSE_ID.search(first.told)) is None:
            return
        name = found[1].decode()
        more: JSONObject = {"input": f"Go on, {self._probe.marker}.", "previous_response_id": name}
        yield self._post(
            self._wire, path, {}, {"model": self._model, "max_output_tokens": 16, **more}
        )
        for method, below in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
            yield self._ask(self._wire, method, f"/v1/responses/{name}{below}", {}, b"")

    def _batch(self, path: str, body: JSONObject) -> Iterator[Answer]:
        """A file of one line, its batch, and what comes of it."""
        form = _form(canonical_bytes(_line(path, body)))
        kind = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
        uploaded = self._ask(self._wire, "POST", "/v1/files", kind, form)
        yield uploaded
        if (file := _FILE_ID.search(uploaded.body)) is None:
            return
        named: JSONObject = {"input_file_id": file[1].decode(), "endpoint": path}
        asked: JSONObject = {**named, "completion_window": "24h"}
        made = self._post(self._wire, "/v1/batches", {}, asked)
        yield made
        if (batch := _BATCH_ID.search(made.body)) is None:
            return
        deadline = time.monotonic() + TIMEOUT_S
        while not (ended := _ENDED.search(made.body)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
            made = self._ask(self._wire, "GET", f"/v1/batches/{batch[1].decode()}", {}, b"")
        yield made
        for name in _OUTPUT_IDS.findall(made.body) if ended else ():
            yield self._ask(self._wire, "GET", f"/v1/files/{name.decode()}/content", {}, b"")

    def _post(
        self, wire: httpx2.Client, path: str, headers: dict[str, str], body: JSONObject
    ) -> Answer:
        content, kind = _written(self._probe, body)
        return self._ask(wire, "POST", path, {"content-type": kind, **headers}, content)

    def _ask(
        self, wire: httpx2.Client, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> Answer:
        headers = {"authorization": f"Bearer {self._target.key}", **headers}
        url = f"{self._target.url.rstrip('/')}{path}"
        try:
            response = wire.request(method, url, content=body, headers=headers)
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return Answer(self._probe.index, None)
        told = {name.lower(): value for name, value in response.headers.items()}
        plain = {name: value for name, value in told.items() if name != "content-encoding"}
        everything = readable(response.content, plain)
        return Answer(self._probe.index, response.status_code, told, everything, response.content)


def _form(line: bytes) -> bytes:
    """The form that uploads a file of one line."""
    head = 'content-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    file = 'content-disposition: form-data; name="file"; filename="lines.jsonl"\r\n'
    kind = "content-type: application/jsonl\r\n\r\n"
    begin = f"--{_BOUNDARY}\r\n{head}--{_BOUNDARY}\r\n{file}{kind}".encode()
    return begin + line + f"\n\r\n--{_BOUNDARY}--\r\n".encode()


@contextmanager
def _fresh() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False, timeout=TIMEOUT_S) as wire:
        yield wire
