"""Every estimator by the name that `RINGFENCE_ESTIMATOR` takes, and how each is built."""

from __future__ import annotations

import math
from typing import Final

from proxy.errors import SettingsError
from proxy.local.backend import LocalBackend
from proxy.routing.asking import ASKING, AskingEstimator
from proxy.routing.calibration import Calibration
from proxy.routing.chain import ABOVE
from proxy.routing.estimator import ConfidenceEstimator, PureEstimator
from proxy.routing.learned import read_model
from proxy.routing.signals import SIGNALS

#: The estimator whose model stands in a calibration.
LEARNED: Final = "learned"

ESTIMATORS: Final = (*SIGNALS, *ASKING, LEARNED)


def threshold_of(name: str, threshold: float | None) -> float:
    """The threshold in force for estimator ``name``: the one set, else its start value.

    Raises:
        SettingsError: there is no such estimator, or its score can never reach the threshold.
    """
    low, high = range_of(name)
    if threshold is None and name == LEARNED:
        raise SettingsError("the estimator learned needs RINGFENCE_CALIBRATION_FILE")
    if threshold is None:
        return SIGNALS[name].default_threshold if name in SIGNALS else ASKING[name][1]
    if math.isnan(threshold) or not low <= threshold <= high + ABOVE:
        raise SettingsError(
            f"RINGFENCE_CONFIDENCE_THRESHOLD: {name} lies between {low:g} and {high:g}"
        )
    return threshold


def range_of(name: str) -> tuple[float, float]:
    """The least and the most that the score of estimator ``name`` can be.

    Raises:
        SettingsError: there is no such estimator.
    """
    if name not in ESTIMATORS:
        raise SettingsError(f"RINGFENCE_ESTIMATOR: not one of {', '.join(ESTIMATORS)}")
    signal = SIGNALS.get(name)
    return (signal.low, signal.high) if signal else (0.0, 1.0)


def build_estimator(
    name: str,
    threshold: float | None,
    local: LocalBackend,
    calibration: Calibration | None = None,
) -> ConfidenceEstimator:
    """The estimator ``name``, with the threshold of ``calibration`` where there is one.

    Raises:
        SettingsError: see `threshold_of`.
    """
    in_force = threshold_of(name, calibration.threshold if calibration else threshold)
    made_by = calibration.id if calibration else None
    if name in ASKING:
        return AskingEstimator(name, ASKING[name][0], local, in_force, made_by)
    if name == LEARNED:
        model = read_model(calibration.learned if calibration else None)
        return PureEstimator(name, model.score, in_force, made_by)
    return PureEstimator(name, SIGNALS[name].score, in_force, made_by)
