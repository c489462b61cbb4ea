"""The routes over files: upload, list, show, content, delete.

Source: platform.openai.com/docs/api-reference/files.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.types import Receive, Scope, Send

from proxy.api.checks import too_large
from proxy.api.files import Files
from proxy.api.gate import caller_of
from proxy.api.multipart import Part, read_form
from proxy.api.paging import page_of, query_of
from proxy.api.protocol import Overloaded
from proxy.api.reply import json_reply
from proxy.errors import RequestError

PURPOSES: Final = ("batch",)
#: OpenAI's limits on the life of a file, in seconds.
MIN_LIFE_S: Final = 3_600
MAX_LIFE_S: Final = 2_592_000
MAX_PAGE: Final = 10_000
#: Files in memory at once beyond their bodies: read and sealed, or on their way out.
MAX_UPLOADS: Final = 2
MAX_DOWNLOADS: Final = 8
MAX_DOWNLOADS_A_KEY: Final = 2
_PIECE_BYTES: Final = 256 * 1024

_ANCHOR: Final = "expires_after[anchor]"
_SECONDS: Final = "expires_after[seconds]"


class FileRoutes:
    """The five routes."""

    def __init__(self, files: Files, max_bytes: int) -> None:
        self._files = files
        self._max_bytes = max_bytes
        self._uploading = asyncio.Semaphore(MAX_UPLOADS)
        self._downloading: Counter[str] = Counter()  # by owner

    async def create(self, http: HttpRequest) -> HttpResponse:
        """Keep a file.

        Raises:
            RequestError: the form, the purpose, the time or the file is not one we take.
        """
        async with self._uploading:
            return await self._create(http)

    async def _create(self, http: HttpRequest) -> HttpResponse:
        (content_type,) = http.headers.getlist("content-type")
        parts = await asyncio.to_thread(
            read_form, await http.body(), content_type.encode("latin-1")
        )
        values, file = _sorted(parts)
        if len(file.content) > self._max_bytes:
            raise too_large(self._max_bytes)
        if values.get("purpose") not in PURPOSES:
            message = f"'purpose' must be one of: {', '.join(PURPOSES)}."
            raise RequestError(message, code="invalid_value", param="purpose")
        kept = await self._files.upload(
            caller_of(http).key_id,
            file.filename or "",
            values["purpose"],
            file.content,
            _life_s(values),
        )
        return json_reply(200, kept.body)

    async def list(self, http: HttpRequest) -> HttpResponse:
        """The files of the caller, the newest first unless asked otherwise."""
        query = query_of(http)
        purpose = query.get("purpose")
        files = [
            file.body
            for file in await self._files.all(caller_of(http).key_id)
            if purpose in (None, file.purpose)
        ]
        return json_reply(200, page_of(files, query, default=MAX_PAGE, most=MAX_PAGE))

    async def show(self, http: HttpRequest) -> HttpResponse:
        """One file."""
        file = await self._files.show(caller_of(http).key_id, _id(http))
        return json_reply(200, file.body)

    async def content(self, http: HttpRequest) -> HttpResponse:
        """The bytes of a file, as nothing a browser would run.

        Raises:
            RequestError: ``file_not_found`` (404).
            Overloaded: too many files are being sent.
        """
        owner, going = caller_of(http).key_id, self._downloading
        if going[owner] >= MAX_DOWNLOADS_A_KEY or going.total() >= MAX_DOWNLOADS:
            raise Overloaded("Too many files are being sent at once.")
        going[owner] += 1
        try:
            content = await self._files.content(owner, _id(http))
        except BaseException:
            going[owner] -= 1
            raise
        return _Download(content, lambda: going.subtract([owner]))

    async def delete(self, http: HttpRequest) -> HttpResponse:
        """Forget one file."""
        await self._files.forget(caller_of(http).key_id, _id(http))
        return json_reply(200, {"id": _id(http), "object": "file", "deleted": True})


class _Download(HttpResponse):
    """A file on its way, in pieces: the next one is handed on when the client has read."""

    def __init__(self, content: bytes, sent: Callable[[], None]) -> None:
        headers = {
            "content-disposition": "attachment",
            "content-length": str(len(content)),
        }
        super().__init__(None, media_type="application/octet-stream", headers=headers)
        self._content = content
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and say so, however that ended."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            for at in range(0, len(self._content), _PIECE_BYTES):
                piece = self._content[at : at + _PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._sent()


def _sorted(parts: tuple[Part, ...]) -> tuple[dict[str, str], Part]:
    """The plain values by name, and the one file."""
    values: dict[str, str] = {}
    files = []
    for part in parts:
        if part.filename is not None and part.name == "file":
            files.append(part)
        elif part.filename is None and part.name in ("purpose", _ANCHOR, _SECONDS):
            if part.name in values:
                raise RequestError("The form names a field twice.", code="invalid_form")
            values[part.name] = part.content.decode("utf-8", "replace")
        else:
            message = "The form may hold 'file', 'purpose' and 'expires_after', and no other field."
            raise RequestError(message, code="unsupported_parameter")
    if len(files) != 1:
        raise RequestError(
            "Send exactly one file, with its name.",
            code="missing_required_parameter",
            param="file",
        )
    return values, files[0]


def _life_s(values: Mapping[str, str]) -> int | None:
    if _ANCHOR not in values and _SECONDS not in values:
        return None
    seconds = values.get(_SECONDS, "")
    if values.get(_ANCHOR) != "created_at" or not (seconds.isascii() and seconds.isdigit()):
        raise _bad_life()
    if not MIN_LIFE_S <= int(seconds[:9]) <= MAX_LIFE_S:
        raise _bad_life()
    return int(seconds[:9])


def _bad_life() -> RequestError:
    message = f"It needs the anchor `created_at` and {MIN_LIFE_S} to {MAX_LIFE_S} seconds."
    return RequestError(message, code="invalid_value", param="expires_after")


def _id(http: HttpRequest) -> str:
    return str(http.path_params["id"])
