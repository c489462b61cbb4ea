"""The pre-router: sends a question on before it is drafted, where its draft would not have stayed.

It reads the question alone: its form, and its vector by the local tier's encoder. So it can only
save the time of drafts that are thrown away; how often it may be wrong is bounded by calibration.
Source: RouteLLM (Ong et al., arXiv 2406.18665) routes by the question alone as well.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from proxy.errors import LocalBackendError, SettingsError
from proxy.local.backend import LocalBackend
from proxy.routes.chat import CHAT
from proxy.routes.embeddings import EMBEDDINGS
from proxy.routing.calibration import Calibration, is_number
from proxy.routing.features import QUESTION_FEATURES, question_features, question_of
from proxy.routing.learned import LearnedModel, read_model
from proxy.settings import Settings
from proxy.types import AUTO_MODEL, PRE_ROUTER, Confidence, Request

#: A longer question takes the encoder longer than it saves.
MAX_QUESTION_CHARS: Final = 4_000

#: Longest wait for the encoder, in seconds; then the question is drafted as ever.
TIMEOUT_S: Final = 1.0

#: More dimensions than any sentence encoder has are a mistake.
_MAX_DIMENSIONS: Final = 8_192


@dataclass(frozen=True, slots=True)
class Foresight:
    """What the pre-router learned, and what it promises; part of a calibration.

    ``model`` gives the probability that a question's draft stays at home; below ``threshold`` the
    question goes ahead. ``in_vain`` bounds the share of all requests that go ahead though their
    draft would have stayed, with the calibration's error rate, over ``num_rows`` rows of their own.
    ``ahead`` is the share that went ahead there, ``escalated`` the share of the drafted rest below
    the threshold; ``spread_bounds`` and ``spread_shares`` tell how that rest's scores spread.
    """

    encoder: str
    model: LearnedModel
    threshold: float
    in_vain: float
    num_rows: int
    ahead: float
    escalated: float
    spread_bounds: tuple[float, ...]
    spread_shares: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values, as `read_foresight` takes them."""
        return asdict(self)


def read_foresight(raw: Mapping[str, Any]) -> Foresight:
    """The pre-router in a calibration.

    Raises:
        SettingsError: it is none, or one for other features than ours.
    """
    try:
        numbers = {k: float(raw[k]) for k in ("threshold", "in_vain", "ahead", "escalated")}
        found = Foresight(
            encoder=str(raw["encoder"]),
            model=read_model(raw["model"], feature_names(_num_dimensions(raw["model"]))),
            num_rows=int(raw["num_rows"]),
            spread_bounds=tuple(float(bound) for bound in raw["spread_bounds"]),
            spread_shares=tuple(float(share) for share in raw["spread_shares"]),
            **numbers,
        )
    except (KeyError, TypeError, ValueError):
        raise SettingsError("the calibration holds no pre-router that can be read") from None
    shares = len(found.spread_shares) == len(found.spread_bounds) + 2
    if not shares or not all(map(math.isfinite, numbers.values())):
        raise SettingsError("the calibration holds no pre-router that can be read")
    return found


def foresight_in_force(settings: Settings, calibration: Calibration | None) -> Foresight | None:
    """What the pre-router goes by; None where it is switched off.

    Raises:
        SettingsError: it is switched on, and the calibration holds none, or one of another encoder.
    """
    if not settings.pre_router:
        return None
    if calibration is None or calibration.foresight is None:
        raise SettingsError(
            "RINGFENCE_PRE_ROUTER needs a calibration made with `ringfence calibrate --ahead`"
        )
    found = read_foresight(calibration.foresight)
    if found.encoder != settings.embedding_model:
        raise SettingsError(
            f"the pre-router was made for the encoder {found.encoder}, "
            f"RINGFENCE_EMBEDDING_MODEL is {settings.embedding_model}"
        )
    return found


def feature_names(num_dimensions: int) -> tuple[str, ...]:
    """What the model looks at: the form of the question, and its vector."""
    return (*QUESTION_FEATURES, *(f"vector_{n}" for n in range(num_dimensions)))


def question_values(request: Request, vector: Sequence[float]) -> tuple[float, ...]:
    """The values of `feature_names`, in order."""
    return (*question_features(request), *vector)


def _num_dimensions(model: Mapping[str, Any]) -> int:
    return min(max(len(model["features"]) - len(QUESTION_FEATURES), 0), _MAX_DIMENSIONS)


class PreRouter:
    """Says before the draft whether there is any use in one."""

    def __init__(
        self, foresight: Foresight, local: LocalBackend, calibration_id: str | None = None
    ) -> None:
        self._foresight = foresight
        self._local = local
        self._calibration_id = calibration_id

    async def foresee(self, request: Request) -> Confidence | None:
        """How sure it is that the draft of ``request`` stays; low: it need not be made.

        None where it cannot tell: what it was not made for, or an encoder that fails or is late.
        """
        if not _is_plain(request):
            return None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                (vector,) = await vectors_of(self._local, request, [question_of(request)])
        except (LocalBackendError, TimeoutError):
            return None
        values = question_values(request, vector)
        if len(values) != len(self._foresight.model.features):
            return None
        score = self._foresight.model.probability(values)
        return Confidence(score, self._foresight.threshold, PRE_ROUTER, self._calibration_id)


def _is_plain(request: Request) -> bool:
    """Whether it is a question in words, of a length that the encoder reads fast.

    Whether the local model can serve tools and the like only the local model can say.
    """
    text, body = question_of(request), request.body
    beyond = ("tools", "functions", "response_format", "audio")
    plain = request.route == CHAT.name and not any(body.get(name) for name in beyond)
    return plain and 0 < len(text) <= MAX_QUESTION_CHARS


async def vectors_of(
    local: LocalBackend, request: Request, texts: Sequence[str]
) -> list[list[float]]:
    """The vectors of ``texts``, shape ``(len(texts), num_dimensions)``, by the local encoder.

    Args:
        local: the tier that has the encoder.
        request: on whose behalf.
        texts: at least one.

    Raises:
        LocalBackendError: no such vectors came.
    """
    asked = replace(
        request,
        route=EMBEDDINGS.name,
        model=AUTO_MODEL,
        body={"model": AUTO_MODEL, "input": list(texts)},
        stream=False,
    )
    told = (await local.generate(asked)).body.get("data")
    vectors: list[list[float]] = []
    for one in told if isinstance(told, list | tuple) else ():
        vector = one.get("embedding") if isinstance(one, dict) else None
        if not isinstance(vector, list | tuple) or not all(map(is_number, vector)):
            raise LocalBackendError("The encoder's answer cannot be read.")
        vectors.append([float(value) for value in vector])
    if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) != 1:
        raise LocalBackendError("The encoder's answer cannot be read.")
    return vectors
