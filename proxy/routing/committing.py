"""Early commit: a draft whose beginning is sure enough is told while the rest is written.

The mirror image of early exit, but no certainty: the end may still bring the score below the
threshold. How often that may happen is bounded by calibration, as a share of all requests and with
an error rate. It commits once, after a number of tokens that was fixed before any data, and never
to a beginning that shows a doubt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from proxy.errors import SettingsError
from proxy.local.backend import FlowingBackend
from proxy.local.live import Watch
from proxy.metrics import Metrics
from proxy.routing.calibration import Calibration
from proxy.routing.doom import Doomed
from proxy.routing.doubts import doubts_of
from proxy.routing.drift import DriftWatch
from proxy.routing.guarantee import choose_threshold, grid
from proxy.routing.rows import Flags, Floats
from proxy.routing.signals import SIGNALS, WINDOW_TOKENS
from proxy.settings import Settings
from proxy.types import Confidence, Draft

#: Tokens that are looked at: the window of the other signals, no single odd token and yet early.
AFTER_TOKENS: Final = WINDOW_TOKENS

#: Most tokens that an artifact may ask for; what was told waits in memory until then.
_MOST_TOKENS: Final = 1_024


@dataclass(frozen=True, slots=True)
class Commitment:
    """When a draft is committed to, and what that promises; part of a calibration.

    A draft goes out once its first ``after_tokens`` tokens score ``threshold`` or more. ``at_most``
    bounds the share of all requests that go out so though their whole draft would have escalated,
    with the calibration's error rate, over ``num_rows`` rows of their own. ``committed`` is the
    share that was committed to there.
    """

    after_tokens: int
    threshold: float
    at_most: float
    num_rows: int
    committed: float

    def as_json(self) -> dict[str, Any]:
        """Plain values, as `read_commitment` takes them."""
        return asdict(self)


def read_commitment(raw: Mapping[str, Any]) -> Commitment:
    """The early commit in a calibration.

    Raises:
        SettingsError: it is none.
    """
    try:
        found = Commitment(
            after_tokens=int(raw["after_tokens"]),
            threshold=float(raw["threshold"]),
            at_most=float(raw["at_most"]),
            num_rows=int(raw["num_rows"]),
            committed=float(raw["committed"]),
        )
    except (KeyError, TypeError, ValueError):
        raise SettingsError("the calibration holds no early commit that can be read") from None
    if math.isnan(found.threshold) or not 0 < found.after_tokens <= _MOST_TOKENS:
        raise SettingsError("the calibration holds no early commit that can be read")
    return found


def score_of_beginning(estimator: str, draft: Draft, num_tokens: int) -> float | None:
    """The score of the first tokens of ``draft``.

    None where it has fewer, where they show a doubt, or where it is unknown: nobody commits to it.
    """
    signal = SIGNALS.get(estimator)
    if signal is None or len(draft.token_logprobs) < num_tokens:
        return None
    tokens = draft.tokens[:num_tokens]
    begun = replace(
        draft,
        text="".join(tokens),
        tokens=tokens,
        token_logprobs=draft.token_logprobs[:num_tokens],
        top_logprobs=draft.top_logprobs[:num_tokens],
    )
    return None if doubts_of(begun) else signal.of(begun)


def commit(
    begun: Floats, escalates: Flags, estimator: str, at_most: float, error_rate: float
) -> Commitment:
    """What can be promised, from rows that the threshold was not chosen on.

    Args:
        begun: the score of each draft's beginning, shape ``(num_rows,)``; NaN where there is none.
        escalates: whether the whole draft does, of the same shape.
        estimator: what made the scores.
        at_most: the share of all requests that may be committed to and would have escalated.
        error_rate: of the promise.

    Raises:
        SettingsError: the rows cannot show it for any draft.
    """
    signal = SIGNALS[estimator]
    known = np.where(np.isnan(begun), -np.inf, begun)
    threshold = choose_threshold(
        grid(signal.low, signal.high)[::-1],  # nobody is as sure as the most
        lambda least: ((known >= least) & ~np.isnan(begun) & escalates).astype(np.float64),
        at_most,
        error_rate,
    )
    goes = np.zeros(begun.shape, bool) if threshold is None else known >= threshold
    if threshold is None or not goes.any():
        raise SettingsError(
            f"--commit: on {begun.size} rows of their own no draft can be committed to: give more "
            "rows, longer answers, a greater share, or calibrate without"
        )
    return Commitment(AFTER_TOKENS, threshold, at_most, begun.size, float(goes.mean()))


def refuse_if_unscorable(estimator: str) -> None:
    """Refuse an estimator that does not score a beginning by its tokens alone.

    Raises:
        SettingsError: it is one.
    """
    if estimator not in SIGNALS:
        raise SettingsError(f"early commit knows no beginning of {estimator}: use a plain signal")


def commitment_in_force(settings: Settings, calibration: Calibration | None) -> Commitment | None:
    """What early commit goes by; None where it is switched off.

    Raises:
        SettingsError: it is switched on, and the calibration holds none.
    """
    if not settings.early_commit:
        return None
    if calibration is None or calibration.commitment is None:
        raise SettingsError(
            "RINGFENCE_EARLY_COMMIT needs a calibration made with `ringfence calibrate --commit`"
        )
    refuse_if_unscorable(settings.estimator)
    return read_commitment(calibration.commitment)


@dataclass(frozen=True, slots=True)
class EarlyCommit:
    """Who can tell a draft while it is written, and from when on; ``full_threshold`` is the τ that
    the promise was made for.
    """

    local: FlowingBackend
    estimator: str
    full_threshold: float
    commitment: Commitment
    metrics: Metrics
    drift: DriftWatch | None = None

    def watch(self, doomed: Doomed | None = None) -> Watch:
        """The watch over one draft; ``doomed`` gives it up, see `proxy.routing.doom`."""
        return Watch(self.commitment.after_tokens, self.holds, self.saw, doomed)

    def holds(self, begun: Draft) -> bool:
        """Whether a draft that begins so is committed to."""
        score = score_of_beginning(self.estimator, begun, self.commitment.after_tokens)
        return score is not None and score >= self.commitment.threshold and not doubts_of(begun)

    def saw(self, whole: Draft | None) -> None:
        """Take in the end of a draft that was committed to; None: it had none, or a broken one."""
        if whole is None:
            self.metrics.committed("broken")
            return
        found = Confidence(
            SIGNALS[self.estimator].of(whole),
            self.full_threshold,
            self.estimator,
            doubts=doubts_of(whole),
        )
        if self.drift is not None:
            self.drift.saw(found)
        self.metrics.committed("would_escalate" if found.is_low else "kept")
