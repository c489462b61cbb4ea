"""Learns what the pre-router goes by: which questions' drafts would not stay at home."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from proxy.errors import SettingsError
from proxy.local.backend import LocalBackend
from proxy.routing.collect import request_of
from proxy.routing.drift import spread_of
from proxy.routing.features import QUESTION_FEATURES
from proxy.routing.guarantee import choose_threshold, grid
from proxy.routing.prerouter import Foresight, feature_names, question_values, vectors_of
from proxy.routing.rows import Flags, Floats, Graded, Item, table_of
from proxy.routing.training import train

#: Questions that are encoded in one call.
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Promise:
    """At most the share ``in_vain`` of requests goes ahead in vain, but for ``error_rate``."""

    in_vain: float
    error_rate: float


def split(rows: Sequence[Graded]) -> tuple[list[Graded], list[Graded]]:
    """Two thirds to calibrate and to learn from, and a third to test the pre-router on, by id."""
    parts: tuple[list[Graded], list[Graded]] = ([], [])
    for row in rows:
        parts[hashlib.sha256(b"ahead" + row.id.encode()).digest()[0] % 3 == 0].append(row)
    return parts


async def encode(local: LocalBackend, items: Sequence[Item]) -> dict[str, tuple[float, ...]]:
    """The features of each question, by its id; see `feature_names`.

    Raises:
        LocalBackendError: the encoder failed.
    """
    found: dict[str, tuple[float, ...]] = {}
    for start in range(0, len(items), _BATCH):
        requests = {item.id: request_of(item) for item in items[start : start + _BATCH]}
        texts = [item.prompt for item in items[start : start + _BATCH]]
        vectors = await vectors_of(local, next(iter(requests.values())), texts)
        for (name, request), vector in zip(requests.items(), vectors, strict=True):
            found[name] = question_values(request, vector)
    return found


def learn(
    features: Mapping[str, Sequence[float]],
    parts: tuple[Sequence[Graded], Sequence[Graded]],
    threshold: float,
    promise: Promise,
    encoder: str,
) -> Foresight:
    """A pre-router for drafts that stay at ``threshold`` or above.

    Args:
        features: of each question, by its id.
        parts: rows to learn from, which may be those that gave the threshold; and rows that
            neither the threshold nor the model has seen, for the guarantee.
        threshold: of the cascade.
        promise: what to keep.
        encoder: the name of what made the vectors.

    Raises:
        SettingsError: the rows cannot show it, or no question can be told.
    """
    seen, tested = (table_of(part) for part in parts)
    values, fresh = (np.array([features[row.id] for row in part]) for part in parts)
    stays = ~seen.escalates(threshold)
    fewest = min(int(stays.sum()), int((~stays).sum()))
    if fewest < 5:  # one for each fold
        raise SettingsError("--ahead: nearly all drafts of the data stay, or nearly none")
    model = train(feature_names(values.shape[1] - len(QUESTION_FEATURES)), values, stays, "ridge")
    chances = np.array([model.probability(row) for row in fresh.tolist()])
    chosen = ahead_below(chances, ~tested.escalates(threshold), promise)
    goes = chances < (0.0 if chosen is None else chosen)
    if chosen is None or not 0 < goes.sum() < len(tested):
        raise SettingsError(
            f"--ahead: on {len(tested)} rows of their own no question can be told beforehand: "
            "give more rows, a greater share, or calibrate without"
        )
    rest = tested.take(np.flatnonzero(~goes))
    bounds, shares = spread_of([None if np.isnan(s) else float(s) for s in rest.score])
    return Foresight(
        encoder=encoder,
        model=model,
        threshold=chosen,
        in_vain=promise.in_vain,
        num_rows=len(tested),
        ahead=float(goes.mean()),
        escalated=float(rest.escalates(threshold).mean()),
        spread_bounds=bounds,
        spread_shares=shares,
    )


def ahead_below(chances: Floats, stays: Flags, promise: Promise) -> float | None:
    """The threshold of the pre-router that keeps ``promise`` and sends most ahead.

    Args:
        chances: the probability that each draft stays, shape ``(num_rows,)``.
        stays: whether it does, of the same shape.
        promise: what to keep.

    Returns:
        None where the rows are too few to show even that nothing goes in vain.
    """
    return choose_threshold(
        grid(0.0, 1.0),
        lambda threshold: ((chances < threshold) & stays).astype(np.float64),
        promise.in_vain,
        promise.error_rate,
    )
