"""The ASGI app: FastAPI's routing behind the first gate, and every fault in OpenAI's form.

It must never let a validation error, a traceback or a redirect speak to a client: those hold what
the client sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.types import ASGIApp

from audit.errors import AuditError
from proxy.api.auth import KeyTable
from proxy.api.chat import Answerer, ChatCompletions
from proxy.api.gate import Gate, Limits
from proxy.api.headers import DECISION_ID
from proxy.api.models import Models
from proxy.api.reply import fault_reply, json_reply
from proxy.api.stream import KEEP_ALIVE_S
from proxy.errors import ProxyError, RequestError
from proxy.settings import Settings

log = structlog.get_logger()

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]
ModelNames = Callable[[], Sequence[str]]
Readiness = Callable[[], Awaitable[Sequence[str]]]


def create_app(
    answerer: Answerer,
    *,
    settings: Settings,
    keys: KeyTable,
    models: ModelNames,
    readiness: Readiness,
    lifespan: Lifespan | None = None,
) -> ASGIApp:
    """Build the app.

    Args:
        answerer: the pipeline.
        settings: limits, allowed hosts, whether route headers are shown to all.
        keys: who may ask.
        models: names the models of now, for /v1/models.
        readiness: names what is missing before the proxy can answer; empty when it can.
        lifespan: opens and closes what the answerer needs.

    Returns:
        The gate, with everything behind it.
    """
    return build_app(answerer, settings=settings, keys=keys, routes=(models, readiness, lifespan))


def build_app(
    answerer: Answerer,
    *,
    settings: Settings,
    keys: KeyTable,
    routes: tuple[ModelNames, Readiness, Lifespan | None],
    limits: Limits | None = None,
    keep_alive_s: float = KEEP_ALIVE_S,
) -> ASGIApp:
    """`create_app` with its limits open, and the seconds between two keep-alives."""
    models, readiness, lifespan = routes
    app = FastAPI(
        openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    listed = Models(models)
    chat = ChatCompletions(answerer, settings, keep_alive_s=keep_alive_s)

    async def ready(_: HttpRequest) -> HttpResponse:
        missing = list(await readiness())
        status = "not_ready" if missing else "ready"
        return json_reply(503 if missing else 200, {"status": status, "missing": missing})

    app.add_route("/v1/chat/completions", chat.__call__, methods=["POST"])
    app.add_route("/v1/models", listed.list, methods=["GET"])
    app.add_route("/v1/models/{model:path}", listed.one, methods=["GET"])
    app.add_route("/healthz", _healthy, methods=["GET"])
    app.add_route("/readyz", ready, methods=["GET"])
    for fault in (ProxyError, AuditError, Exception):
        app.add_exception_handler(fault, _on_fault)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    return Gate(
        app,
        allowed_hosts=settings.allowed_hosts,
        keys=keys,
        limits=limits or Limits(settings.max_body_bytes),
    )


async def _healthy(_: HttpRequest) -> HttpResponse:
    return json_reply(200, {"status": "ok"})


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
