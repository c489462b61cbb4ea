"""The embedded server: the local tier of a machine that has no other, as an OpenAI-style endpoint.

It listens on loopback only, ends with its parent, answers what it can and refuses the rest by name.
It logs nothing of what is asked or answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from proxy.canonical import parse_object
from proxy.errors import LocalBackendError, RequestError, error_body
from proxy.inspection import offline
from proxy.local.backend import CALLER
from proxy.local.model import model_digest
from proxy.local.wishes import Wishes, nth, read_continuations, read_wishes

offline.cut()

from proxy.local.embed_route import EmbeddingRoute  # noqa: E402
from proxy.local.engine import (  # noqa: E402  (the offline switches must stand first)
    Engine,
    EngineFull,
    Generation,
    Job,
    Piece,
    TooLong,
)
from proxy.local.replies import Chunks, completion, continuation, event  # noqa: E402

#: The proxy's own limit is 10 MiB; what comes here has passed it.
MAX_BODY_BYTES: Final = 16 * 2**20

#: How often a waiting handler looks whether its client is still there, in seconds.
_HANG_UP_CHECK_S: Final = 0.25


class Service:
    """The routes over one engine."""

    def __init__(self, engine: Engine, model: str, embeddings: EmbeddingRoute) -> None:
        self._engine = engine
        self._model = model
        self._embeddings = embeddings

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
                Route("/v1/embeddings", self._embed, methods=["POST"]),
                Route("/v1/models", self._models, methods=["GET"]),
                Route("/healthz", self._health, methods=["GET"]),
            ]
        )

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _models(self, _: Request) -> Response:
        model = {"id": self._model, "object": "model", "created": 0, "owned_by": "local"}
        encoder = self._embeddings.card()
        return JSONResponse({"object": "list", "data": [model, *([encoder] if encoder else [])]})

    async def _embed(self, request: Request) -> Response:
        try:
            return await self._embeddings.answer(parse_object(await _read_body(request)))
        except RequestError as error:
            return JSONResponse(error.body, status_code=error.http_status)

    async def _complete(self, request: Request) -> Response:
        jobs: list[Job] = []
        try:
            wishes = read_continuations(parse_object(await _read_body(request)))
            for prompt in wishes.prompts:
                for which in range(wishes.num_choices):
                    wanted = (prompt, nth(wishes.sampling, which), _caller(request))
                    jobs.append(await asyncio.to_thread(self._engine.submit_text, *wanted))
        except (RequestError, TooLong, EngineFull) as error:
            _give_up(jobs)
            return _refusal(error)
        generations = await self._wait_all(request, jobs)
        if isinstance(generations, Response):
            return generations
        return JSONResponse(continuation(generations, self._model, wishes))

    async def _chat(self, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[Piece | None] = asyncio.Queue()

        def listener(piece: Piece) -> None:
            loop.call_soon_threadsafe(told.put_nowait, piece)

        jobs: list[Job] = []
        try:
            wishes = read_wishes(parse_object(await _read_body(request)))
            for which in range(wishes.num_choices):
                jobs.append(
                    await asyncio.to_thread(
                        self._engine.submit,
                        wishes.messages,
                        nth(wishes.sampling, which),
                        listener if wishes.stream else None,
                        _caller(request),
                    )
                )
        except (RequestError, TooLong, EngineFull) as error:
            _give_up(jobs)
            return _refusal(error)
        if wishes.stream:
            return StreamingResponse(
                self._stream(jobs[0], wishes, told), media_type="text/event-stream"
            )
        generations = await self._wait_all(request, jobs)
        if isinstance(generations, Response):
            return generations
        return JSONResponse(completion(generations, self._model, wishes))

    async def _stream(
        self, job: Job, wishes: Wishes, told: asyncio.Queue[Piece | None]
    ) -> AsyncIterator[bytes]:
        """Server-sent events; the row is given up when the client is gone."""
        chunks = Chunks(self._model, wishes)
        loop = asyncio.get_running_loop()

        def finished(_: Future[Generation]) -> None:
            loop.call_soon_threadsafe(told.put_nowait, None)

        try:
            yield chunks.first()
            job.done.add_done_callback(finished)
            while (piece := await told.get()) is not None:
                yield chunks.piece(piece)
            if job.done.exception() is not None:
                yield event(_fault_body())
                return
            for chunk in chunks.last(job.done.result()):
                yield chunk
        finally:
            job.cancelled.set()

    async def _wait_all(self, request: Request, jobs: list[Job]) -> list[Generation] | Response:
        """The answers; a response where the client is gone or one of them failed."""
        done = asyncio.gather(*(asyncio.wrap_future(job.done) for job in jobs))
        try:
            while not done.done():
                await asyncio.wait({done}, timeout=_HANG_UP_CHECK_S)
                if not done.done() and await request.is_disconnected():
                    return Response(status_code=499)
            if done.exception() is not None:
                return JSONResponse(_fault_body(), status_code=500)
            return done.result()
        finally:
            done.cancel()
            _give_up(jobs)


async def _read_body(request: Request) -> bytes:
    """The request's body.

    Raises:
        RequestError: it is too large.
    """
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise RequestError(
                "The request is too large.", code="request_too_large", http_status=413
            )
    return bytes(raw)


def _caller(request: Request) -> str:
    """Whose turn it is; only the proxy on this machine says so."""
    return request.headers.get(CALLER, "")


def _give_up(jobs: list[Job]) -> None:
    for job in jobs:
        job.cancelled.set()


def _refusal(error: RequestError | TooLong | EngineFull) -> Response:
    if isinstance(error, RequestError):
        return JSONResponse(error.body, status_code=error.http_status)
    if isinstance(error, TooLong):
        return _error(400, "context_length_exceeded", "The request does not fit the context.")
    return _error(429, "busy", "Too many requests wait for the local model.")


def _error(status: int, code: str, message: str) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse(error_body(message, error_type=kind, code=code), status_code=status)


def _fault_body() -> dict[str, dict[str, str | None]]:
    return error_body(
        "The local model failed at this request.", error_type="server_error", code="internal_error"
    )


def _end_with_parent() -> None:
    """The parent holds the other end of our standard input: when it closes, so do we."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """``python -m proxy.local.server``: serve, and say on standard output when ready."""
    parser = argparse.ArgumentParser(description="The embedded local model server.")
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--encoder-dir", type=Path, default=None)
    parser.add_argument("--encoder", default="all-minilm-l6-v2")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    _end_with_parent()
    try:
        model_digest(options.model_dir)
    except LocalBackendError as error:
        raise SystemExit(error.public_message) from None
    engine = Engine(options.model_dir, threads=options.threads)
    config = uvicorn.Config(
        Service(engine, options.model, EmbeddingRoute(options.encoder_dir, options.encoder)).app(),
        host="127.0.0.1",
        port=options.port,
        log_config=None,
        access_log=False,
        server_header=False,
        http="httptools",
    )
    listener = config.bind_socket()
    listener.listen(config.backlog)  # before we say so: who hears it may connect
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
