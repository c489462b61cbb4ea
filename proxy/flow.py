"""What the pipeline is made of, and what it knows of a request on its way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from audit.ledger import Ledger
from proxy.egress.attempt import CloudTier
from proxy.egress.mask import Masked
from proxy.errors import LocalBackendError
from proxy.inspection.detector import Inspector
from proxy.local.backend import FlowingBackend, LocalBackend
from proxy.local.live import LocalStream
from proxy.metrics import Metrics
from proxy.pins.store import PinStore
from proxy.policy.decide import Ruling
from proxy.policy.model import Policy
from proxy.policy.shadow import Shadow
from proxy.policy.staging import Staged
from proxy.records import Laps
from proxy.routing.chain import Chain, Rung
from proxy.routing.committing import EarlyCommit
from proxy.routing.doom import EarlyExit
from proxy.routing.drift import DriftWatch
from proxy.routing.estimator import ConfidenceEstimator
from proxy.routing.prerouter import PreRouter
from proxy.routing.route import Modes
from proxy.types import Confidence, Decision, Draft, Inspection, Request, RouteReason


@dataclass(frozen=True, slots=True)
class Parts:
    """What the pipeline is made of; `proxy.assembly` picks the implementations."""

    inspector: Inspector
    policy: Callable[[], Policy]  # the one in force now
    models: Callable[[], Sequence[str]]  # the names a client may ask for
    local: LocalBackend
    local_model: str
    estimator: ConfidenceEstimator
    ledger: Ledger
    pins: PinStore
    cloud: CloudTier | None
    metrics: Metrics = field(default_factory=Metrics)
    staged: Callable[[], Staged | None] = lambda: None  # the candidate beside the policy, if any
    modes: Modes = field(default_factory=Modes)
    drift: DriftWatch | None = None  # holds drafts against the calibration, if there is one
    early: EarlyExit | None = None  # gives drafts up that cannot reach the threshold
    prerouter: PreRouter | None = None  # tells which drafts need not be made
    chain: Chain | None = None  # the cloud models that are asked in turn
    encoder: str = ""  # the model at home that makes vectors, and no words
    climb_s: float = math.inf  # from when on a request came no further one is asked
    flowing: FlowingBackend | None = None  # tells answers while they are made
    committing: EarlyCommit | None = None  # tells drafts early that are sure enough


@dataclass(frozen=True, slots=True)
class Flow:
    """What is known of a request so far; each step makes a new one."""

    request: Request
    inspection: Inspection
    decision: Decision
    ruling: Ruling
    draft: Draft | None = None
    confidence: Confidence | None = None
    foreseen: Confidence | None = None  # that a draft stays, before there was one
    ahead: RouteReason | None = None  # why no draft comes first
    rungs: tuple[Rung, ...] = ()  # the models it may climb; its request names the first
    local_fault: LocalBackendError | None = None
    begun: LocalStream | None = None  # a local answer that flows, in place of a draft
    masked: Masked | None = None
    unmaskable: bool = False
    barred: RouteReason | None = None
    laps: Laps = ()
    shadow: Shadow | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def is_drafted(self) -> bool:
        """Whether a draft was tried, well or in vain."""
        return self.is_answered or self.local_fault is not None

    @property
    def is_answered(self) -> bool:
        """Whether the local tier answered, or began to."""
        return self.draft is not None or self.begun is not None

    @property
    def is_held(self) -> bool:
        """Whether its batch has no plan for it yet, or one that policy does not let it follow."""
        return self.request.plan is not None and not self.rungs

    def lap(self, stage: str, started: float) -> Flow:
        """This flow with the time of a stage noted, in ms."""
        return replace(self, laps=(*self.laps, (stage, (time.perf_counter() - started) * 1000)))
