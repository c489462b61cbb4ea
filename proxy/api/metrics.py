"""GET /metrics: what those who run the proxy count, for a scraper with a key of its own.

Counts tell what policy thought of a client's requests, so that not every client may read them.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from proxy.api.gate import Ticket
from proxy.errors import RequestError
from proxy.metrics import CONTENT_TYPE, Metrics


class MetricsPage:
    """The page, for keys that may read it."""

    def __init__(self, metrics: Metrics, *, open_to_all: bool) -> None:
        self._metrics = metrics
        self._open_to_all = open_to_all

    async def __call__(self, http: HttpRequest) -> HttpResponse:
        """The counts of all server processes.

        Raises:
            RequestError: ``metrics_not_allowed`` (403): this key may not read them.
        """
        ticket: Ticket = http.scope["state"]["ticket"]
        may_read = ticket.key is not None and ticket.key.read_metrics
        if not (self._open_to_all or may_read):
            raise RequestError(
                "This key may not read metrics.", code="metrics_not_allowed", http_status=403
            )
        body = await asyncio.to_thread(self._metrics.exposition)
        return HttpResponse(body, media_type=CONTENT_TYPE)
