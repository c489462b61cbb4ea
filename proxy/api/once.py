"""`Idempotency-Key`: a request that is sent again gets the first answer, and is not done again.

The key is claimed before anything is done, so that a repeat finds either the answer, or that there
is none yet. A repeat that is answered is on the record first. The work goes on when its client has
left: the client comes back for the answer. What may have left the house and has no answer that
could be kept is never done again under its key.
What was asked is kept as a digest, what was answered encrypted; nothing of either is in the clear.

Source: draft-ietf-httpapi-idempotency-key-header-07, section 2;
docs.stripe.com/api/idempotent_requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import structlog
from starlette.requests import Request as HttpRequest

from audit.record import CallerRecord, ReplayRecord
from proxy.api.gate import caller_of
from proxy.api.protocol import Overloaded
from proxy.api.reply import fault_body
from proxy.errors import NOTHING_LEFT, CloudError, ProxyError, RequestError
from proxy.objects import ObjectStoreError, Quota, Store, StoreFull, opened
from proxy.types import Confidence, JSONObject, Response, Route, RouteReason, Target

log = structlog.get_logger()

HEADER: Final = "Idempotency-Key"
KIND: Final = "idempotency"
#: For how long an answer is kept for a repeat, if the store keeps anything for as long.
TTL_S: Final = 24 * 3600.0
#: What a key may have kept; nothing is dropped, since its repeat would be done a second time.
QUOTA: Final = Quota(drops_oldest=False)
#: Work under way at once, whether or not its client is there.
MAX_AT_ONCE: Final = 256

#: Visible ASCII; clients send UUIDs, some of them in quotes (RFC 8941's strings).
_KEY: Final = re.compile(r"[!-~]{1,255}")

Work = Callable[[], Awaitable[JSONObject]]
#: Makes a repeat durable in the ledger, or raises an `AuditError`.
Note = Callable[[ReplayRecord], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request under a key: whose, which key, and the digest of what was asked.

    ``repeat`` is what goes on record where the request turns out to be a repeat: the decision id
    and the status are not known yet.
    """

    owner: str
    key: str
    digest: str
    repeat: ReplayRecord


class KeptFault(ProxyError):
    """The fault that the first request ended in, once more."""

    decision_id: str | None = None


class KeyConflict(RequestError):
    """There is no answer to this key yet, or never will be."""

    code = "idempotency_in_progress"
    http_status = 409


def asked_in(http: HttpRequest, route: str, body: Callable[[], bytes]) -> Asked | None:
    """The request as its ``Idempotency-Key`` names it; None: it carries none.

    Raises:
        RequestError: ``invalid_idempotency_key``.
    """
    keys = http.headers.getlist(HEADER)
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        message = f"Send one {HEADER} of 1 to 255 visible ASCII characters."
        raise RequestError(message, code="invalid_idempotency_key")
    caller, ticket = caller_of(http), http.scope["state"]["ticket"]
    who = CallerRecord(caller.app, caller.team, caller.environment, caller.key_id)
    repeat = ReplayRecord(None, ticket.request_id, route, who, 200)
    return Asked(
        caller.key_id, keys[0], hashlib.sha256(route.encode() + b"\n" + body()).hexdigest(), repeat
    )


class Once:
    """Does work once for each key of each API key; an answer given again is on the record."""

    def __init__(self, store: Store, timeout_s: float, note: Note) -> None:
        """``timeout_s``: the longest that work can take; ``note`` puts a repeat on the record."""
        self._store = store
        self._note = note
        self._longest_s = timeout_s + 5.0
        self._running: set[asyncio.Task[JSONObject]] = set()

    @property
    def kept_s(self) -> float:
        """For how long an answer is given again, in seconds."""
        return min(opened(self._store).ttl_s, TTL_S)

    async def do(self, asked: Asked | None, work: Work) -> JSONObject:
        """What ``work`` gives, or gave before.

        Raises:
            RequestError: ``idempotency_key_reused`` (422) for another request under the same key;
                ``idempotency_in_progress``, ``idempotency_unknown`` (409); ``store_full``.
            KeptFault: what the first request ended in.
            AuditError: a repeat could not be recorded, so it is not answered.
            ProxyError, AuditError: as ``work`` raises them.
        """
        if asked is None:
            return await work()
        if len(self._running) >= MAX_AT_ONCE:
            raise Overloaded("The proxy has too many requests at once.")
        store = opened(self._store)
        ttl_s = self.kept_s
        place = (KIND, asked.owner, store.name_of(asked.key))
        claim = {"asked": asked.digest, "ends_at": time.time() + self._longest_s}
        try:
            there = await store.claim(*place, json.dumps(claim).encode(), ttl_s, QUOTA)
        except StoreFull:
            message = f"Too many requests with {HEADER} in a day."
            raise RequestError(message, code="store_full", http_status=429) from None
        if there is not None:
            return await self._again(json.loads(there), asked)
        task = asyncio.create_task(self._do(place, asked, work, ttl_s))
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def _again(self, kept: dict[str, Any], asked: Asked) -> JSONObject:
        """What was kept, once it is on record that it is given again."""
        end = _end_of(kept, asked)
        done = end.get("done")
        told = done if isinstance(done, dict) else end["fault"]
        status = told.get("status")
        status = status if isinstance(status, int) else 200  # a batch has a status of its own
        decision_id = told.get("decision_id")
        await self._note(replace(asked.repeat, decision_id=decision_id, status=status))
        if isinstance(done, dict):
            return done
        fault = KeptFault(
            told["message"], code=told["code"], http_status=status, param=told["param"]
        )
        fault.error_type = told["type"]
        fault.decision_id = decision_id
        raise fault

    async def _do(
        self, place: tuple[str, str, str], asked: Asked, work: Work, ttl_s: float
    ) -> JSONObject:
        try:
            done = await work()
        except Exception as error:
            status, body = fault_body(error)
            unsent = isinstance(error, CloudError) and error.sent == "no"
            decision_id = getattr(error, "decision_id", None)
            fault = {"status": status, "unsent": unsent, "decision_id": decision_id}
            fault |= body["error"]
            await self._end(place, asked, {"fault": fault}, ttl_s)
            raise
        await self._end(place, asked, {"done": done}, ttl_s)
        return done

    async def _end(
        self, place: tuple[str, str, str], asked: Asked, end: dict[str, Any], ttl_s: float
    ) -> None:
        """Keep the end of the work, or let go of the key where nothing can have left."""
        store = opened(self._store)
        try:
            if _is_harmless(end):
                await store.delete(*place)
                return
            kept = json.dumps({"asked": asked.digest, **end}).encode()
            await store.put(*place, kept, ttl_s=ttl_s, quota=None)
        except ObjectStoreError:
            # The claim stands: a repeat is told that the outcome is unknown.
            log.error("answer_not_kept", code=ObjectStoreError.code)

    def _finished(self, task: asyncio.Task[JSONObject]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # taken, so that a client that left leaves no warning behind


def _end_of(kept: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """What the first request ended in; an error where the repeat gets none of it."""
    if kept["asked"] != asked.digest:
        raise RequestError(
            f"This {HEADER} was sent with another request.",
            code="idempotency_key_reused",
            http_status=422,
        )
    if "done" in kept or "fault" in kept:
        return kept
    if time.time() < kept["ends_at"]:
        raise KeyConflict("The first request with this key is still being answered.")
    raise KeyConflict(
        "The first request with this key ended without an answer that was kept, and may have "
        "left. Send it under another key to have it done again.",
        code="idempotency_unknown",
    )


def _is_harmless(end: dict[str, Any]) -> bool:
    """Whether it ended before anything can have left, so that a repeat may try again."""
    match end:
        case {"fault": {"unsent": True}}:
            return True
        case {"fault": {"status": int(status), "code": str(code)}} | {
            "done": {"status": int(status), "body": {"error": {"code": str(code)}}}
        }:
            return 400 <= status < 500 or code in NOTHING_LEFT
    return False


def packed(response: Response) -> JSONObject:
    """A response, to keep."""
    route, confidence = response.route, response.confidence
    return {
        "status": response.http_status,
        "body": response.body,
        "decision_id": response.decision_id,
        "route": [route.target.value, route.reason.value, route.degraded],
        "confidence": None
        if confidence is None
        else {**asdict(confidence), "doubts": list(confidence.doubts)},
        "pinned": response.pinned,
    }


def unpacked(kept: JSONObject) -> Response:
    """A response that was kept; the destination of its route is on the record, not here."""
    told: dict[str, Any] = dict(kept)
    target, reason, degraded = told["route"]
    confidence = told["confidence"]
    return Response(
        decision_id=told["decision_id"],
        http_status=told["status"],
        body=told["body"],
        route=Route(Target(target), RouteReason(reason), degraded),
        confidence=None
        if confidence is None
        else Confidence(**{**confidence, "doubts": tuple(confidence["doubts"])}),
        pinned=told["pinned"],
    )
