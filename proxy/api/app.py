"""The ASGI app: FastAPI's routing behind the first gate, and every fault in OpenAI's form.

It must never let a validation error, a traceback or a redirect speak to a client: those hold what
the client sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.types import ASGIApp

from audit.errors import AuditError
from proxy.api.answer import AnswerRoute
from proxy.api.auth import KeyTable
from proxy.api.batch import Batches
from proxy.api.batch_routes import BatchRoutes
from proxy.api.conversations import Conversations
from proxy.api.file_routes import FileRoutes
from proxy.api.files import Files
from proxy.api.gate import Gate, Limits
from proxy.api.headers import DECISION_ID
from proxy.api.metrics import MetricsPage
from proxy.api.models import Models
from proxy.api.once import Once
from proxy.api.openapi import openapi
from proxy.api.reply import fault_reply, json_reply
from proxy.api.stored import StoredResponses
from proxy.api.stream import KEEP_ALIVE_S
from proxy.errors import ProxyError, RequestError
from proxy.metrics import Metrics
from proxy.routes.registry import ROUTES
from proxy.settings import Settings

log = structlog.get_logger()

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]
ModelNames = Callable[[], Sequence[str]]
Readiness = Callable[[], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Watch:
    """What those who run the proxy see of it."""

    readiness: Readiness  # names what is missing before the proxy can answer; empty when it can
    metrics: Metrics = field(default_factory=Metrics)


@dataclass(frozen=True, slots=True)
class Rooms:
    """What answers requests, and keeps what clients want kept."""

    conversations: Conversations
    files: Files
    batches: Batches
    once: Once


def create_app(
    rooms: Rooms,
    *,
    settings: Settings,
    keys: KeyTable,
    models: ModelNames,
    watch: Watch,
    lifespan: Lifespan | None = None,
) -> ASGIApp:
    """Build the app.

    Args:
        rooms: the pipeline, and what is kept for clients.
        settings: limits, allowed hosts, whether route headers are shown to all.
        keys: who may ask.
        models: names the models of now, for /v1/models.
        watch: readiness and metrics.
        lifespan: opens and closes what the answerer needs.

    Returns:
        The gate, with everything behind it.
    """
    return build_app(rooms, settings=settings, keys=keys, routes=(models, watch, lifespan))


def build_app(
    rooms: Rooms,
    *,
    settings: Settings,
    keys: KeyTable,
    routes: tuple[ModelNames, Watch, Lifespan | None],
    limits: Limits | None = None,
    keep_alive_s: float = KEEP_ALIVE_S,
) -> ASGIApp:
    """`create_app` with its limits open, and the seconds between two keep-alives."""
    models, watch, lifespan = routes
    app = FastAPI(
        openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    listed = Models(models)

    async def ready(_: HttpRequest) -> HttpResponse:
        missing = list(await watch.readiness())
        status = "not_ready" if missing else "ready"
        return json_reply(503 if missing else 200, {"status": status, "missing": missing})

    for route in ROUTES.values():
        answers = AnswerRoute(
            route, rooms.conversations, settings, rooms.once, keep_alive_s=keep_alive_s
        )
        app.add_route(f"/v1{route.path}", answers.__call__, methods=["POST"])
    _add_kept(app, rooms, settings)
    app.add_route("/v1/models", listed.list, methods=["GET"])
    app.add_route("/v1/models/{model:path}", listed.one, methods=["GET"])
    app.add_route("/openapi.json", _published, methods=["GET"])
    app.add_route("/healthz", _healthy, methods=["GET"])
    app.add_route("/readyz", ready, methods=["GET"])
    page = MetricsPage(watch.metrics, open_to_all=settings.expose_metrics)
    app.add_route("/metrics", page.__call__, methods=["GET"])
    for fault in (ProxyError, AuditError, Exception):
        app.add_exception_handler(fault, _on_fault)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    return Gate(
        app,
        allowed_hosts=settings.allowed_hosts,
        keys=keys,
        limits=limits or Limits(settings.max_body_bytes, settings.max_file_bytes),
        metrics=watch.metrics,
    )


def _add_kept(app: FastAPI, rooms: Rooms, settings: Settings) -> None:
    """The routes over what is kept for clients."""
    stored = StoredResponses(rooms.conversations)
    app.add_route("/v1/responses/{id}", stored.show, methods=["GET"])
    app.add_route("/v1/responses/{id}", stored.delete, methods=["DELETE"])
    app.add_route("/v1/responses/{id}/cancel", stored.cancel, methods=["POST"])
    app.add_route("/v1/responses/{id}/input_items", stored.input_items, methods=["GET"])
    files = FileRoutes(rooms.files, settings.max_file_bytes)
    app.add_route("/v1/files", files.list, methods=["GET"])
    app.add_route("/v1/files", files.create, methods=["POST"])
    app.add_route("/v1/files/{id}", files.show, methods=["GET"])
    app.add_route("/v1/files/{id}", files.delete, methods=["DELETE"])
    app.add_route("/v1/files/{id}/content", files.content, methods=["GET"])
    batches = BatchRoutes(rooms.batches, rooms.files, rooms.once, settings.max_json_depth)
    app.add_route("/v1/batches", batches.list, methods=["GET"])
    app.add_route("/v1/batches", batches.create, methods=["POST"])
    app.add_route("/v1/batches/{id}", batches.show, methods=["GET"])
    app.add_route("/v1/batches/{id}/cancel", batches.cancel, methods=["POST"])


async def _healthy(_: HttpRequest) -> HttpResponse:
    return json_reply(200, {"status": "ok"})


async def _published(_: HttpRequest) -> HttpResponse:
    return json_reply(200, openapi())


async def _on_fault(http: HttpRequest, error: Exception) -> HttpResponse:
    """Answer a fault; what is not ours is logged by its class name alone."""
    if not isinstance(error, RequestError):
        ticket = http.scope.get("state", {}).get("ticket")
        log.error(
            "request_failed",
            request_id=getattr(ticket, "request_id", None),
            error=type(error).__name__,
            code=getattr(error, "code", "internal_error"),
        )
    decision_id = getattr(error, "decision_id", None)
    return fault_reply(error, {DECISION_ID: decision_id} if decision_id else None)


async def _on_http_exception(_: HttpRequest, error: Exception) -> HttpResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        fault = RequestError("Unknown request URL.", code="unknown_url", http_status=404)
    else:
        fault = RequestError("The request cannot be taken.", http_status=status)
    return fault_reply(fault)


async def _on_validation_error(_: HttpRequest, __: Exception) -> HttpResponse:
    return fault_reply(RequestError("The request is not valid."))
