"""The routes over batches: create, list, show, cancel.

Source: platform.openai.com/docs/api-reference/batch.
"""

from __future__ import annotations

import time
from typing import Any, Final

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from proxy.api.batch import WINDOW_S, Batch, Batches
from proxy.api.batch_lines import ENDPOINTS
from proxy.api.file_routes import MAX_LIFE_S, MIN_LIFE_S
from proxy.api.files import Files
from proxy.api.gate import caller_of
from proxy.api.once import Once, asked_in
from proxy.api.paging import page_of, query_of
from proxy.api.reply import json_reply
from proxy.api.wire import read_json
from proxy.canonical import canonical_bytes
from proxy.errors import RequestError
from proxy.ids import new_id
from proxy.routes.fields import INTEGER, OBJECT, STRING, invalid, optional, required
from proxy.types import JSONObject

MAX_PAGE: Final = 100
_DEFAULT_PAGE: Final = 20
#: OpenAI's limits on metadata.
MAX_PAIRS: Final = 16
MAX_KEY_CHARS: Final = 64
MAX_VALUE_CHARS: Final = 512

_PARAMETERS: Final = frozenset(
    {"completion_window", "endpoint", "input_file_id", "metadata", "output_expires_after"}
)


class BatchRoutes:
    """The four routes."""

    def __init__(self, batches: Batches, files: Files, once: Once, max_depth: int) -> None:
        self._batches = batches
        self._files = files
        self._once = once
        self._max_depth = max_depth

    async def create(self, http: HttpRequest) -> HttpResponse:
        """Take a batch; its lines are read when it is run.

        Raises:
            RequestError: a parameter is not one we take, or the file is not there.
        """
        asked = read_json(await http.body(), max_depth=self._max_depth)
        _check(asked)
        owner = caller_of(http).key_id
        repeat = asked_in(http, "batches", lambda: canonical_bytes(asked))
        return json_reply(200, await self._once.do(repeat, lambda: self._create(owner, asked)))

    async def _create(self, owner: str, asked: JSONObject) -> JSONObject:
        file_id = str(asked["input_file_id"])
        file = await self._files.show(owner, file_id, "input_file_id")
        if file.purpose != "batch":
            raise invalid("input_file_id", "must be of a file with the purpose `batch`")
        now = int(time.time())
        life: Any = asked.get("output_expires_after")
        metadata: Any = asked.get("metadata")
        wanted = Batch(
            id=new_id("batch"),
            owner=owner,
            endpoint=str(asked["endpoint"]),
            input_file_id=file_id,
            created_at=now,
            expires_at=min(now + WINDOW_S, file.expires_at),
            metadata=metadata,
            output_ttl_s=life["seconds"] if life else None,
        )
        return (await self._batches.create(wanted)).body

    async def list(self, http: HttpRequest) -> HttpResponse:
        """The batches of the caller, the newest first."""
        query = query_of(http)
        batches = [one.body for one in await self._batches.all(caller_of(http).key_id)]
        return json_reply(200, page_of(batches, query, default=_DEFAULT_PAGE, most=MAX_PAGE))

    async def show(self, http: HttpRequest) -> HttpResponse:
        """One batch."""
        batch = await self._batches.show(caller_of(http).key_id, _id(http))
        return json_reply(200, batch.body)

    async def cancel(self, http: HttpRequest) -> HttpResponse:
        """Ask for the end of a batch."""
        batch = await self._batches.cancel(caller_of(http).key_id, _id(http))
        return json_reply(200, batch.body)


def _check(asked: JSONObject) -> None:
    if not asked.keys() <= _PARAMETERS:
        known = ", ".join(sorted(_PARAMETERS))
        message = f"A batch is made from these parameters and no others: {known}."
        raise RequestError(message, code="unsupported_parameter")
    required(asked, "input_file_id", STRING)
    if required(asked, "endpoint", STRING) not in ENDPOINTS:
        raise invalid("endpoint", f"must be one of {', '.join(ENDPOINTS)}")
    if required(asked, "completion_window", STRING) != "24h":
        raise invalid("completion_window", "must be 24h")
    metadata = optional(asked, "metadata", OBJECT)
    if isinstance(metadata, dict) and not _is_metadata(metadata):
        raise invalid(
            "metadata",
            f"may hold {MAX_PAIRS} strings of {MAX_VALUE_CHARS} characters under names of "
            f"{MAX_KEY_CHARS}",
        )
    life = optional(asked, "output_expires_after", OBJECT)
    if isinstance(life, dict):
        seconds = required(life, "seconds", INTEGER, "output_expires_after.")
        if life.get("anchor") != "created_at" or not MIN_LIFE_S <= seconds <= MAX_LIFE_S:  # type: ignore[operator]
            demand = f"needs the anchor `created_at` and {MIN_LIFE_S} to {MAX_LIFE_S} seconds"
            raise invalid("output_expires_after", demand)


def _is_metadata(metadata: JSONObject) -> bool:
    return len(metadata) <= MAX_PAIRS and all(
        len(name) <= MAX_KEY_CHARS and isinstance(value, str) and len(value) <= MAX_VALUE_CHARS
        for name, value in metadata.items()
    )


def _id(http: HttpRequest) -> str:
    return str(http.path_params["id"])
