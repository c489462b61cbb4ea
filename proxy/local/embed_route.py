"""The embedded server's /v1/embeddings: read, encode, tell in OpenAI's form."""

from __future__ import annotations

import asyncio
import base64
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.responses import JSONResponse, Response

from proxy.errors import RequestError, error_body
from proxy.local.encoder import Encoder, TextTooLong
from proxy.local.encoder_files import has_encoder
from proxy.local.wishes import unsupported
from proxy.types import JSON, JSONObject

#: OpenAI's limit on the texts of one request.
_MAX_TEXTS: Final = 2048


class EmbeddingRoute:
    """The route over an encoder that is loaded when it is first asked for."""

    def __init__(self, folder: Path | None, model: str) -> None:
        self._folder = folder
        self._model = model
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()

    async def answer(self, body: JSONObject) -> Response:
        """The embeddings asked for in ``body``.

        Raises:
            RequestError: it asks for what the encoder cannot do, or there is none.
        """
        texts = _texts(body.get("input"))
        if self._folder is None or not has_encoder(self._folder):
            raise RequestError(
                "There is no encoder here: run `ringfence model pull`.",
                code="model_not_found",
                http_status=404,
            )
        encoder = await asyncio.to_thread(self._load, self._folder)
        if body.get("dimensions") not in (None, encoder.num_dimensions):
            raise unsupported("dimensions")
        as_text = body.get("encoding_format") == "base64"
        try:
            vectors, num_tokens = await asyncio.to_thread(encoder.encode, texts)
        except TextTooLong:
            return JSONResponse(
                error_body(
                    "A text is longer than the encoder reads.",
                    error_type="invalid_request_error",
                    code="context_length_exceeded",
                ),
                status_code=400,
            )
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _base64(vector) if as_text else vector,
            }
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
        return JSONResponse({"object": "list", "data": data, "model": self._model, "usage": usage})

    def card(self) -> Mapping[str, object] | None:
        """The encoder as OpenAI lists a model; None where there is none."""
        if self._folder is None or not has_encoder(self._folder):
            return None
        return {"id": self._model, "object": "model", "created": 0, "owned_by": "local"}

    def _load(self, folder: Path) -> Encoder:
        with self._loading:
            if self._encoder is None:
                self._encoder = Encoder(folder)
            return self._encoder


def _texts(value: JSON) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or len(texts) > _MAX_TEXTS:
        raise RequestError(
            f"input is a text, or up to {_MAX_TEXTS}.", code="invalid_value", param="input"
        )
    if not all(isinstance(text, str) for text in texts):
        raise unsupported("input")  # token ids of another model's vocabulary
    return [str(text) for text in texts]


def _base64(vector: list[float]) -> str:
    """Little-endian 32-bit floats, as OpenAI's clients read them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
