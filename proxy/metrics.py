"""What the proxy counts, in Prometheus' form.

Labels are a closed vocabulary: words of our own code, and names from our own configuration (apps
of the key table, destinations and entities of the policy). Nothing that a client or a provider
wrote has a label to stand in.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from audit.record import DecisionRecord, OutcomeRecord, name_or_other
from proxy.types import JSON, PRE_ROUTER, Draft, Response, UnscannableReason

#: The variable by which prometheus-client learns, when imported, that processes share their counts.
SHARED_DIR: Final = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_PREFIX: Final = "ringfence_"
_OTHER: Final = "other"

#: Each label, and where its values come from.
LABELS: Final = {
    "action": "`block`, `local_only`, `mask`, `allow`",
    "app": "an app of the key table; `default` without one",
    "commit": "`kept`, `would_escalate` (its whole scores below the threshold), `broken`",
    "degraded": "`true`: policy allowed a better answer than the one that was given",
    "destination": "the id of a destination of the policy",
    "door": "a route of the proxy; `other` for any path that is none",
    "end": "`given`, `went_on` (the next rung was due), `fault`",
    "entity": "an entity that detectors find",
    "kind": "`prompt`, `completion`",
    "outcome": "`ok`, or the class of the fault (`timeout`, `status_5xx`, `capped` …)",
    "period": "`day`, `month`",
    "reason": "a code: why this route, why unscannable",
    "result": "`loaded`, or why a version of the policy was rejected",
    "route": "`local`, `cloud`, `refuse`",
    "rung": "the number of a cloud model in the chain, from 1",
    "scope": "a team of the key table; `overall`",
    "stage": "`inspection` (and the decision), `draft`, `cloud`",
    "status": "the HTTP status",
    "tier": "`local`, `cloud`",
    "side": "`in_force`, `candidate`: which policy decided",
    "verdict": "what a candidate in the shadow said: `same`, `stricter`, `looser`, `failed`",
    "version": "the version of this proxy",
}

#: What an attempt on the cloud can come to; see `proxy.egress`.
OUTCOMES: Final = frozenset(
    {"ok", "capped", "client_abort", "connection", "garbage", "internal", "not_recorded"}
    | {"no_bound", "no_budget", "no_key", "over_budget"}
    | {"redirect", "refused", "sdk", "status_4xx", "status_5xx", "switched_off", "timeout"}
    | {"too_large", "upstream_error"}
)

_SECONDS: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
#: Mean log-probability of a token, natural log; the usual thresholds lie between -2 and -0.1.
_LOGPROBS: Final = (-4.0, -3.0, -2.0, -1.5, -1.0, -0.8, -0.6, -0.5, -0.4, -0.3, -0.2, -0.1, 0.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name without prefix and suffix, what it says, its labels."""

    name: str
    kind: type[Counter] | type[Gauge] | type[Histogram]
    says: str
    labels: tuple[str, ...] = ()
    worst: str = "livemin"
    buckets: tuple[float, ...] = _SECONDS

    @property
    def full_name(self) -> str:
        """The name as Prometheus shows it."""
        return f"{_PREFIX}{self.name}{'_total' if self.kind is Counter else ''}"

    def made(self, registry: CollectorRegistry) -> Any:
        """The metric itself; of several processes, a gauge shows the worst."""
        more: dict[str, Any] = {}
        if self.kind is Gauge:
            more["multiprocess_mode"] = self.worst
        if self.kind is Histogram:
            more["buckets"] = self.buckets
        return self.kind(_PREFIX + self.name, self.says, self.labels, registry=registry, **more)


CATALOG: Final = (
    Metric("build_info", Gauge, "Always 1; carries the version.", ("version",)),
    Metric("http_responses", Counter, "Answers of the front door.", ("door", "status")),
    Metric(
        "decisions",
        Counter,
        "Requests that were decided, by what the policy said and the route taken.",
        ("app", "action", "route", "reason"),
    ),
    Metric(
        "answers",
        Counter,
        "Answers given, by where they came from in the end.",
        ("route", "reason", "degraded"),
    ),
    Metric("findings", Counter, "Findings in requests.", ("entity",)),
    Metric("unscannable", Counter, "Parts of requests that could not be inspected.", ("reason",)),
    Metric("stage_seconds", Histogram, "Time in a stage, in seconds.", ("stage",)),
    Metric(
        "confidence",
        Histogram,
        "Confidence of local drafts (mean token log-probability, natural log).",
        buckets=_LOGPROBS,
    ),
    Metric("drafts_cut", Counter, "Local answers given up early: they had to escalate."),
    Metric(
        "local_streams",
        Counter,
        "Local answers that flowed while they were written, by what came of them.",
        ("outcome",),
    ),
    Metric(
        "early_commits",
        Counter,
        "Drafts that were told early, by what their whole came to.",
        ("commit",),
    ),
    Metric("tokens", Counter, "Tokens, as the tier counted them.", ("tier", "kind")),
    Metric(
        "cloud_attempts",
        Counter,
        "Attempts on the cloud, by what came of them.",
        ("destination", "outcome"),
    ),
    Metric(
        "rung_attempts",
        Counter,
        "Attempts on the cloud models of a chain, by rung and by what followed.",
        ("rung", "end"),
    ),
    Metric(
        "cloud_cost_usd",
        Counter,
        "Cost of cloud answers by the price table, in US dollars.",
        ("destination",),
    ),
    Metric(
        "cloud_cost_unknown",
        Counter,
        "Attempts that may have cost something and whose cost is not known.",
        ("destination",),
    ),
    Metric(
        "placeholders",
        Counter,
        "Placeholders in answers to masked requests: restored, or unknown and left as they are.",
        ("result",),
    ),
    Metric(
        "answer_scans",
        Counter,
        "Cloud answers that policy has inspected, by what that came to.",
        ("verdict",),
    ),
    Metric("marked_tool_calls", Counter, "Tool calls that got masked values back."),
    Metric(
        "budget_left_ratio",
        Gauge,
        "Share of a budget that is left, from 0 to 1.",
        ("scope", "period"),
    ),
    Metric(
        "calibration_fits",
        Gauge,
        "1: drafts are like those of the calibration; 0: they drifted; make it anew.",
    ),
    Metric(
        "confidence_drift_psi",
        Gauge,
        "How far scores spread otherwise than in the calibration (population stability index).",
        worst="livemax",
    ),
    Metric(
        "escalation_drift_ratio",
        Gauge,
        "Share of the last drafts that escalate, less the share in the calibration.",
        worst="livemostrecent",
    ),
    Metric("policy_reloads", Counter, "New versions of the policy, by result.", ("result",)),
    Metric(
        "policy_last_reload_successful",
        Gauge,
        "1: the policy in force is the one in the files; 0: a version was rejected.",
    ),
    Metric(
        "policy_last_reload_success_timestamp_seconds",
        Gauge,
        "When the policy in force was loaded (Unix time).",
    ),
    Metric("policy_revision", Gauge, "The revision of the policy in force."),
    Metric(
        "policy_shadow",
        Counter,
        "Requests that a candidate policy decided in the shadow, by how it differs.",
        ("verdict",),
    ),
    Metric("policy_sides", Counter, "Requests decided, by policy.", ("side",)),
    Metric(
        "policy_staged_until_timestamp_seconds",
        Gauge,
        "When the candidate policy ends (Unix time); 0: there is none.",
    ),
    Metric("egress_switch_on", Gauge, "1: what policy lets leave may leave; 0: switched off."),
    Metric("ledger_writable", Gauge, "1: the last record could be made durable."),
)


@dataclass(frozen=True, slots=True)
class State:
    """What the gauges show; times in seconds of Unix time."""

    policy_is_current: bool
    policy_loaded_at: float
    policy_revision: int
    policy_staged_until: float
    egress_is_on: bool
    ledger_is_writable: bool


class Metrics:
    """The counts of one process; safe from any thread."""

    def __init__(self, version: str = "") -> None:
        self._registry = CollectorRegistry()
        self._made = {metric.name: metric.made(self._registry) for metric in CATALOG}
        self._made["build_info"].labels(version=version or "unknown").set(1)
        # A series that is not there yet hides its first increase from an alert.
        for reason in UnscannableReason:
            self._count("unscannable", 0, reason=reason.value)
        self._count("policy_reloads", 0, result="loaded")

    def answered_http(self, door: str, status: int) -> None:
        """Count an answer of the front door; status 0: nobody was there to take one."""
        self._count("http_responses", door=door, status=str(status) if status else "none")

    def decided(self, record: DecisionRecord) -> None:
        """Count a decision, with what was found and how long it took."""
        routing = record.routing
        self._count(
            "decisions",
            app=name_or_other(record.caller.app),
            action=record.policy.action,
            route=routing.route,
            reason=routing.reason,
        )
        for entity in record.entities:
            self._count("findings", entity.count, entity=name_or_other(entity.entity))
        for reason, num in record.coverage.unscannable:
            self._count("unscannable", num, reason=reason)
        for stage, ms in record.latency_ms:
            self._made["stage_seconds"].labels(stage=stage).observe(ms / 1000)
        if routing.score is not None and routing.estimator != PRE_ROUTER:
            self._made["confidence"].observe(routing.score)

    def drafted(self, draft: Draft) -> None:
        """Count the tokens of a local answer, and whether it was given up."""
        if draft.is_cut:
            self._made["drafts_cut"].inc()
        self._count_tokens("local", draft.prompt_tokens, draft.completion_tokens)

    def streamed(self, error_type: str | None, usage: JSON) -> None:
        """Count a local answer that flowed, with its tokens where the server told them."""
        self._count("local_streams", outcome=error_type or "ok")
        told = usage if isinstance(usage, dict) else {}
        prompt, completion = (told.get(f"{kind}_tokens") for kind in ("prompt", "completion"))
        self._count_tokens(
            "local",
            prompt if isinstance(prompt, int) else 0,
            completion if isinstance(completion, int) else 0,
        )

    def committed(self, came_to: str) -> None:
        """Count a draft that was told early, by what its whole came to."""
        self._count("early_commits", commit=came_to)

    def attempted(self, destination: str, record: OutcomeRecord) -> None:
        """Count an attempt that has its outcome."""
        outcome = "ok" if record.error_type is None else record.error_type
        self.failed(destination, outcome)
        self._count_tokens("cloud", record.prompt_tokens, record.completion_tokens)
        self._count("placeholders", record.restored, result="restored")
        self._count("placeholders", record.unknown_placeholders, result="unknown")
        if record.answer_scan is not None:
            self._count("answer_scans", verdict=record.answer_scan)
        self._made["marked_tool_calls"].inc(record.marked_tool_calls)
        known = name_or_other(destination)
        if record.cost_usd is None:
            self._count("cloud_cost_unknown", destination=known)
        else:
            self._count("cloud_cost_usd", record.cost_usd, destination=known)
        if record.latency_ms:
            self._made["stage_seconds"].labels(stage="cloud").observe(record.latency_ms / 1000)

    def climbed(self, rung: int, end: str) -> None:
        """Count an attempt on a rung of a chain; ``end`` is a word of ours."""
        self._count("rung_attempts", rung=str(rung), end=end)

    def failed(self, destination: str, outcome: str) -> None:
        """Count an attempt that came to no record of an outcome."""
        known = outcome if outcome in OUTCOMES else _OTHER
        self._count("cloud_attempts", destination=name_or_other(destination), outcome=known)

    def budgeted(self, scope: str, period: str, left: float) -> None:
        """Show the share of a budget that is left; ``period`` is a day or a month."""
        labels = {
            "scope": "overall" if scope == "*" else name_or_other(scope),
            "period": "day" if len(period) > len("2026-11") else "month",
        }
        self._made["budget_left_ratio"].labels(**labels).set(left)

    def drifted(self, psi: float, share: float, *, fits: bool) -> None:
        """Show how far the last drafts are from the calibration's."""
        self._made["calibration_fits"].set(fits)
        self._made["confidence_drift_psi"].set(psi)
        self._made["escalation_drift_ratio"].set(share)

    def answered(self, response: Response) -> None:
        """Count an answer."""
        route = response.route
        self._count(
            "answers",
            route=route.target.value,
            reason=route.reason.value,
            degraded="true" if route.degraded else "false",
        )

    def reloaded(self, result: str) -> None:
        """Count a new version of the policy; ``result`` is a code of ours."""
        self._count("policy_reloads", result=result)

    def sided(self, side: str) -> None:
        """Count which policy decided a request."""
        self._count("policy_sides", side=side)

    def shadowed(self, verdict: str) -> None:
        """Count what a candidate in the shadow said to a request."""
        self._count("policy_shadow", verdict=verdict)

    def show(self, state: State) -> None:
        """Set the gauges."""
        self._made["policy_last_reload_successful"].set(state.policy_is_current)
        self._made["policy_last_reload_success_timestamp_seconds"].set(state.policy_loaded_at)
        self._made["policy_revision"].set(state.policy_revision)
        staged_until = self._made["policy_staged_until_timestamp_seconds"]
        staged_until.set(state.policy_staged_until)
        self._made["egress_switch_on"].set(state.egress_is_on)
        self._made["ledger_writable"].set(state.ledger_is_writable)

    def exposition(self) -> bytes:
        """The counts of all server processes, in Prometheus' text form."""
        folder = os.environ.get(SHARED_DIR)
        if folder is None:
            return generate_latest(self._registry)
        _forget_the_dead(Path(folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _count(self, name: str, num: float = 1, **labels: str) -> None:
        self._made[name].labels(**labels).inc(num)

    def _count_tokens(self, tier: str, prompt: int, completion: int) -> None:
        self._count("tokens", max(prompt, 0), tier=tier, kind="prompt")
        self._count("tokens", max(completion, 0), tier=tier, kind="completion")


@contextlib.contextmanager
def shared_folder(data_dir: Path) -> Iterator[Path]:
    """A folder where the server processes of this one share their counts, set for its children.

    Counts begin at 0 with every start. Folders that ended processes left behind are removed; the
    lock on a folder, not its name, tells which those are.
    """
    top = data_dir / "metrics"
    top.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as stack:
        with _locked(top, wait=True):
            for left in top.iterdir():
                with contextlib.suppress(OSError), _locked(left):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(dir=top))
            stack.enter_context(_locked(folder))
        os.environ[SHARED_DIR] = str(folder)
        try:
            yield folder
        finally:
            os.environ.pop(SHARED_DIR, None)
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of ``folder``. OSError: somebody else does, and we do not wait."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _forget_the_dead(folder: Path) -> None:
    """Drop the gauges of server processes that are gone; their counts stay."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except (OSError, ValueError):
            continue
