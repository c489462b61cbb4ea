"""GET /v1/models and /v1/models/{id}: the models that this proxy answers for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from proxy.api.reply import json_reply
from proxy.errors import RequestError
from proxy.types import JSON

OWNER = "ringfence"


def model_card(model: str) -> dict[str, JSON]:
    """A model as OpenAI lists it; ``created`` is not known and fixed, so that lists are stable."""
    return {"id": model, "object": "model", "created": 0, "owned_by": OWNER}


class Models:
    """The two model routes, over a function that names the models of now."""

    def __init__(self, models: Callable[[], Sequence[str]]) -> None:
        self._models = models

    async def list(self, _: HttpRequest) -> HttpResponse:
        """All models."""
        cards = [model_card(model) for model in self._models()]
        return json_reply(200, {"object": "list", "data": cards})

    async def one(self, http: HttpRequest) -> HttpResponse:
        """One model; the path is compared as it came, so nothing is decoded twice.

        Raises:
            RequestError: ``model_not_found`` (404).
        """
        asked: bytes = http.scope["raw_path"].removeprefix(b"/v1/models/")
        for model in self._models():
            if asked in (model.encode(), quote(model, safe=":").encode()):
                return json_reply(200, model_card(model))
        raise RequestError(
            "This model does not exist here.",
            code="model_not_found",
            http_status=404,
            param="model",
        )
