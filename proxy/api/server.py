"""How uvicorn runs the app: one HTTP parser, no text in any log, an orderly end."""

from __future__ import annotations

from typing import Final

import uvicorn
from starlette.types import ASGIApp

from proxy.api.protocol import StrictProtocol
from proxy.settings import Settings

#: Longer than the keep-alive of usual HTTP clients, so that they close first (no race).
KEEP_ALIVE_S: Final = 30
GRACE_S: Final = 30


def server_config(
    app: ASGIApp | str, settings: Settings, *, factory: bool = False
) -> uvicorn.Config:
    """The one way this proxy is served.

    Args:
        app: the app, or its import name where several workers build their own.
        settings: address, port, workers.
        factory: whether the import name is of a function that builds the app.
    """
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        factory=factory,
        http=StrictProtocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,  # it would write the query string; the gate has a line of its own
        proxy_headers=False,  # X-Forwarded-* is for anyone to send
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        backlog=512,
    )


def serve(app: ASGIApp, settings: Settings) -> None:
    """Serve in this process until a signal ends it."""
    uvicorn.Server(server_config(app, settings)).run()
