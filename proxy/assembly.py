"""Builds every part of the proxy, in one ordered list; the only place that picks them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp

from audit.capture_keys import BadCaptureKey, load_public_key
from audit.errors import AuditError, LedgerUnwritable
from audit.keys import load_or_make_key
from audit.ledger import Ledger
from audit.record import ReplayRecord
from audit.stores.address import open_store
from audit.vault import VAULT, Vault
from proxy import __version__
from proxy.api.app import Rooms, Watch, create_app
from proxy.api.auth import KeyTable
from proxy.api.batch import Batches
from proxy.api.batch_lines import Limits as BatchLimits
from proxy.api.batch_runner import BatchRunner, Pace
from proxy.api.conversations import Conversations
from proxy.api.files import Files
from proxy.api.once import Once
from proxy.commands.notices import (
    Notices,
    approved_detail,
    record_detail,
    record_refusal,
    tell_age,
)
from proxy.credentials import cloud_credentials
from proxy.egress.attempt import CloudTier
from proxy.egress.budgets import BudgetStore, load_budgets
from proxy.egress.cloud import OpenAICloud
from proxy.egress.limit import AttemptLimit
from proxy.egress.spending import Spending
from proxy.egress.transport import Door
from proxy.errors import PolicyError, ProxyError, SettingsError
from proxy.flow import Parts
from proxy.inspection.registry import DetectorConfig
from proxy.inspection.run import ProcessInspector
from proxy.local.backend import LocalBackend
from proxy.local.places import abroad
from proxy.local.tier import LocalTier
from proxy.logs import configure_logs
from proxy.metrics import Metrics, State
from proxy.objects import ObjectStore
from proxy.pins.store import PinStore
from proxy.pipeline import Pipeline
from proxy.policy.approval import approval_for
from proxy.policy.language import RecordPolicy
from proxy.policy.model import Policy
from proxy.policy.refusal import PolicyRefused, Rejection
from proxy.policy.reload import PolicyKeeper, Reload, Verdict
from proxy.policy.staging import StageChange, StageKeeper
from proxy.policy.switch import EgressSwitch
from proxy.prices import load_prices
from proxy.routing.calibration import Calibration
from proxy.routing.catalog import build_estimator, threshold_of
from proxy.routing.chain import (
    Chain,
    calibration_in_force,
    missing_models,
    refuse_unreachable,
)
from proxy.routing.committing import EarlyCommit, commitment_in_force
from proxy.routing.doom import EarlyExit
from proxy.routing.drift import DriftWatch, Expected
from proxy.routing.estimator import ConfidenceEstimator
from proxy.routing.plan import planner_in_force
from proxy.routing.prerouter import PreRouter, foresight_in_force
from proxy.routing.route import Modes
from proxy.settings import Settings, load_settings
from proxy.types import AUTO_MODEL, Request, Response

log = structlog.get_logger()

_NO_KEY = "none: local-only (no OPENAI_API_KEY)"
_NO_CLOUD = "none in the policy"
_NO_VAULT = "`record: {train_on_answers: true}` needs RINGFENCE_CAPTURE_KEY_FILE"
_ABROAD = "an endpoint of the local tier is a destination of the policy: what must stay leaves"
_SHADOW = "none: in the shadow (RINGFENCE_ROUTING_MODE)"


class Proxy:
    """One server process, from its settings to its open parts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics(__version__)
        self._vault = _open_vault(settings)
        self._approval = approval_for(settings)
        self._keeper = self._open_policy()
        if self._keeps_in_vain(self.policy().content.record):
            raise SettingsError(f"{_NO_VAULT}; or leave `train_on_answers` out")
        if self._is_abroad():
            raise SettingsError(f"{_ABROAD}: see `ringfence check`")
        self._stage = StageKeeper(settings.data_dir, self.policy, self._approval)
        self._switch = EgressSwitch(settings.data_dir)
        self._notices: Notices | None = None
        self._keys = KeyTable.load(settings.keys_file)
        self._pipeline: Pipeline | None = None
        self._ledger: Ledger | None = None
        self._local: LocalTier | None = None
        self._objects: ObjectStore | None = None
        self._chain: Chain | None = None
        self._rooms = Rooms(
            Conversations(self, lambda: self._objects, settings.max_body_bytes),
            Files(lambda: self._objects),
            Batches(lambda: self._objects),
            Once(lambda: self._objects, settings.request_timeout_s, self._replayed),
        )

    async def _replayed(self, record: ReplayRecord) -> None:
        """Put a repeat on the record."""
        if self._ledger is None:
            raise LedgerUnwritable("the ledger is not open")
        await self._ledger.replay(record)

    @property
    def _in_shadow(self) -> bool:
        """Whether nothing may leave, whatever policy says; then there is no cloud tier at all."""
        return self._settings.routing_mode == "shadow"

    def _open_policy(self) -> PolicyKeeper:
        """The policy in force; a refusal is on the record."""
        settings = self._settings
        try:
            return PolicyKeeper(settings.policy_file, self._reloaded, self._approval)
        except PolicyError as error:
            reason = error.reason if isinstance(error, PolicyRefused) else Rejection.UNUSABLE
            record_refusal(lambda: _open_ledger(settings, settings.data_dir / "keys"), reason)
            raise

    def _keeps_in_vain(self, record: RecordPolicy) -> bool:
        """Whether answers shall be kept, and nothing is there to keep them in."""
        return bool(record.train_on_answers) and self._vault is None

    def _is_abroad(self) -> bool:
        """Whether policy calls an endpoint a cloud that gets what must stay at home."""
        clouds = {one.id: one.base_url for one in self.policy().content.destinations}
        return bool(abroad(self._settings, clouds))

    @property
    def app(self) -> ASGIApp:
        """The ASGI app; its lifespan opens and closes the parts."""
        return create_app(
            self._rooms,
            settings=self._settings,
            keys=self._keys,
            models=self.models,
            watch=Watch(self.missing, self._metrics),
            lifespan=self._lifespan,
        )

    async def answer(self, request: Request) -> Response:
        """Answer ``request``; see `Pipeline.answer`."""
        if self._pipeline is None:
            raise ProxyError("The proxy is starting.", code="starting", http_status=503)
        return await self._pipeline.answer(request)

    def policy(self) -> Policy:
        """The policy in force."""
        return self._keeper.current()

    def models(self) -> Sequence[str]:
        """The model names a client may ask for; ``ringfence`` leaves the choice to the proxy."""
        home = (self._settings.local_model, self._settings.embedding_model)
        return tuple(dict.fromkeys((AUTO_MODEL, *home, *self._cloud_models())))

    def _encoder(self) -> str:
        """The model that makes vectors at home, unless an operator has its name speak as well."""
        name = self._settings.embedding_model
        return "" if name in (self._settings.local_model, *self._cloud_models()) else name

    def _cloud_models(self) -> Sequence[str]:
        return [m for d in self.policy().content.destinations for m in d.models]

    async def missing(self) -> Sequence[str]:
        """What is missing before the proxy can answer."""
        found = []
        if self._pipeline is None:
            found.append("pipeline")
        if self._ledger is None or not self._ledger.writable:
            found.append("ledger")
        if self._local is None or not await self._local.probe():
            found.append("local_model")
        return found

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Open the parts, and say so if one does not open."""
        async with AsyncExitStack() as stack:
            try:
                self._pipeline = Pipeline(await self._open(stack))
            except (ProxyError, AuditError) as error:
                log.error("does_not_start", code=error.code, problem=str(error))
                raise
            yield
            self._pipeline = None

    async def _open(self, stack: AsyncExitStack) -> Parts:
        """Open the parts in order; ``stack`` closes them in reverse."""
        settings = self._settings
        keys_dir = settings.data_dir / "keys"
        # 1. the record: without one, nothing else is worth opening
        self._ledger = await asyncio.to_thread(_open_ledger, settings, keys_dir, self._vault)
        stack.push_async_callback(self._ledger.close)
        # 2. the detectors, in processes of their own
        inspector = ProcessInspector(
            num_workers=settings.inspection_workers,
            timeout_s=settings.inspection_timeout_s,
            config=DetectorConfig.of(settings),
        )
        stack.push_async_callback(inspector.aclose)
        await inspector.start()
        # 3. what pinned exchanges said, and what clients want kept
        pin_key = load_or_make_key(keys_dir / "pins.key")
        pins = PinStore(settings.data_dir / "pins.sqlite3", pin_key, settings.pin_ttl_s)
        stack.callback(pins.close)
        self._objects = ObjectStore(
            settings.data_dir / "objects.sqlite3",
            load_or_make_key(keys_dir / "objects.key"),
            settings.stored_ttl_s,
        )
        stack.callback(self._objects.close)
        # 4. the two tiers
        self._local = self._open_local()
        stack.push_async_callback(self._local.aclose)
        cloud = self._open_cloud(self._ledger, stack)
        # 5. the flow over them
        calibration = self._calibration()
        drift = _open_drift(settings, calibration, self._metrics)
        parts = Parts(
            inspector=inspector,
            policy=self.policy,
            models=self.models,
            local=self._local,
            local_model=settings.local_model,
            estimator=self._open_estimator(self._local, calibration),
            drift=drift,
            flowing=self._local,
            committing=_open_committing(settings, calibration, (self._local, self._metrics, drift)),
            early=_open_early(settings, calibration, self._local),
            ledger=self._ledger,
            pins=pins,
            cloud=cloud,
            metrics=self._metrics,
            staged=self._stage.current,
            prerouter=_open_prerouter(settings, calibration, self._local),
            modes=Modes(self._in_shadow, frozenset(settings.cloud_first_apps)),
            chain=self._chain,
            climb_s=_climb_s(settings),
            encoder=self._encoder(),
        )
        await self._say_start(self._ledger, cloud)
        # 6. what may change while it runs
        self._watch(self._ledger, (self._local, calibration), stack)
        # 7. what runs beside live requests, and ends first
        _run(self._open_batches().run(self._objects, settings.data_dir / "batches"), stack)
        return parts

    def _watch(
        self,
        ledger: Ledger,
        home: tuple[LocalTier, Calibration | None],
        stack: AsyncExitStack,
    ) -> None:
        local, calibration = home
        self._notices = Notices(ledger)
        if calibration is not None:
            _run(tell_age(calibration), stack)
        _run(self._keeper.watch(), stack)
        _run(self._stage.watch(self._staged), stack)
        _run(self._notices.watch(self._switch), stack)
        _run(self._show_state(ledger), stack)
        _run(self._notices.learn(local, self._settings.local_model), stack)

    def _calibration(self) -> Calibration | None:
        """The calibration in force; a chain of models is one."""
        found = calibration_in_force(self._settings)
        if isinstance(found, Chain):
            refuse_unreachable(found.SETTING, found.clouds, self._cloud_models())
            self._chain = found
        return found

    def _open_batches(self) -> BatchRunner:
        settings, rooms = self._settings, self._rooms
        limits = BatchLimits(settings.max_body_bytes, settings.max_json_depth)
        pace = Pace(settings.batch_concurrency, settings.request_timeout_s, limits)
        planner = planner_in_force(settings, load_prices(settings.prices_file))
        if planner is not None:
            models = planner.plan.clouds
            refuse_unreachable("RINGFENCE_PLAN_FILE", models, self._cloud_models())
        plans = planner.models if planner is not None else None
        return BatchRunner(rooms.conversations, rooms.batches, rooms.files, self._keys, pace, plans)

    async def _show_state(self, ledger: Ledger, interval_s: float = 1.0) -> None:
        """Set the gauges again and again; each process shows its own, whoever is asked."""
        while True:
            policy, staged = self.policy(), self._stage.current()
            state = State(
                policy_is_current=self._keeper.healthy,
                policy_loaded_at=policy.loaded_at.timestamp(),
                policy_revision=policy.content.revision,
                policy_staged_until=staged.order.until.timestamp() if staged else 0.0,
                egress_is_on=self._switch.is_on(),
                ledger_is_writable=ledger.writable,
            )
            self._metrics.show(state)
            await asyncio.sleep(interval_s)

    def _reloaded(self, reload: Reload) -> None:
        self._metrics.reloaded(reload.reason.value if reload.reason else "loaded")
        if reload.verdict is Verdict.LOADED and self._keeps_in_vain(reload.record):
            log.error("answers_not_kept", problem=_NO_VAULT)
        if reload.verdict is Verdict.LOADED and self._is_abroad():
            log.error("not_at_home", problem=_ABROAD)
        if reload.verdict is Verdict.LOADED and self._chain is not None:
            missing = missing_models(self._chain.clouds, self._cloud_models())
            if missing:
                log.error("rungs_without_destination", problem=f"no destination has {missing}")
        if self._notices is not None:
            self._notices.reloaded(reload)

    def _staged(self, change: StageChange) -> None:
        if self._keeps_in_vain(change.record):
            log.error("answers_not_kept", problem=_NO_VAULT)
        if self._notices is not None:
            self._notices.staged(change)

    def _open_local(self) -> LocalTier:
        settings = self._settings
        url = settings.local_base_url or settings.embedded_base_url
        if url is None:
            raise SettingsError("no local endpoint: `ringfence serve` starts the embedded one")
        return LocalTier.of(settings, url)

    def _open_estimator(
        self, local: LocalBackend, calibration: Calibration | None
    ) -> ConfidenceEstimator:
        settings = self._settings
        return build_estimator(
            settings.estimator, settings.confidence_threshold, local, calibration
        )

    def _open_cloud(self, ledger: Ledger, stack: AsyncExitStack) -> CloudTier | None:
        settings = self._settings
        credentials = cloud_credentials(settings)
        if credentials is None or self._in_shadow:
            return None
        door = Door(ca_file=settings.cloud_ca_file)
        stack.push_async_callback(door.aclose)
        backend = OpenAICloud(door, credentials=credentials, timeout_s=settings.cloud_timeout_s)
        limit = AttemptLimit(settings.max_cloud_requests_per_minute)
        spending = _open_spending(settings, self._metrics, stack)
        tier = CloudTier(backend, ledger, limit, self._switch.is_on, self._metrics, spending)
        stack.push_async_callback(tier.aclose)
        return tier

    async def _say_start(self, ledger: Ledger, cloud: CloudTier | None) -> None:
        """Put the start on the record and in the log."""
        policy = self.policy()
        content = policy.content
        kept = record_detail(content.record)
        loaded = {"digest": policy.digest, "revision": content.revision, **kept}
        await ledger.event("policy.loaded", loaded)
        if self._keeper.approved is not None:
            detail = approved_detail(policy.digest, self._keeper.approved)
            await ledger.event("policy.approved", detail)
        await ledger.event("start", {"version": __version__, "cloud": cloud is not None})
        destinations = ", ".join(d.id for d in content.destinations)
        log.info(
            "started",
            version=__version__,
            host=self._settings.host,
            port=self._settings.port,
            policy=content.pack,
            revision=content.revision,
            policy_digest=policy.digest[:19],
            local=self._settings.local_model,
            cloud=_SHADOW if self._in_shadow else (destinations or _NO_CLOUD) if cloud else _NO_KEY,
        )


def _open_ledger(settings: Settings, keys_dir: Path, vault: Vault | None = None) -> Ledger:
    url = settings.ledger_url.get_secret_value() if settings.ledger_url else None
    return Ledger.open_store(open_store(url, settings.ledger_dir, keys_dir), vault=vault)


def _open_spending(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Spending:
    """Prices, and the budgets where there are any; closed after the cloud tier."""
    prices = load_prices(settings.prices_file)
    if settings.budgets_file is None:
        return Spending(prices, metrics=metrics)
    budgets = load_budgets(settings.budgets_file)
    store = BudgetStore(settings.data_dir / "budgets.sqlite3", budgets)
    stack.callback(store.close)
    return Spending(prices, store, budgets.max_output_tokens, metrics)


def _open_early(
    settings: Settings, calibration: Calibration | None, local: LocalTier
) -> EarlyExit | None:
    if not settings.early_exit:
        return None
    given = calibration.threshold if calibration else settings.confidence_threshold
    return EarlyExit(local, settings.estimator, threshold_of(settings.estimator, given))


def _open_committing(
    settings: Settings,
    calibration: Calibration | None,
    over: tuple[LocalTier, Metrics, DriftWatch | None],
) -> EarlyCommit | None:
    commitment = commitment_in_force(settings, calibration)
    if commitment is None or calibration is None:
        return None
    local, metrics, drift = over
    threshold = calibration.threshold
    return EarlyCommit(local, settings.estimator, threshold, commitment, metrics, drift)


def _open_prerouter(
    settings: Settings, calibration: Calibration | None, local: LocalTier
) -> PreRouter | None:
    foresight = foresight_in_force(settings, calibration)
    if foresight is None or calibration is None:
        return None
    return PreRouter(foresight, local, calibration.id)


def _open_drift(
    settings: Settings, calibration: Calibration | None, metrics: Metrics
) -> DriftWatch | None:
    if calibration is None:
        return None
    made = calibration
    share, rows = made.expected_share, made.num_rows
    expected = Expected(made.spread_bounds, made.spread_shares, share, rows)
    seen = foresight_in_force(settings, made)
    if seen is not None:
        rest = round(seen.num_rows * (1 - seen.ahead))
        expected = Expected(seen.spread_bounds, seen.spread_shares, seen.escalated, rest)
    if settings.early_exit:
        expected = expected.above(made.threshold)
    return DriftWatch(expected, metrics)


def _climb_s(settings: Settings) -> float:
    """How long after a request came a further model of a chain may be asked, in seconds."""
    whole = settings.request_timeout_s
    return max(whole - settings.cloud_timeout_s, whole / 2)


def _open_vault(settings: Settings) -> Vault | None:
    if settings.capture_key_file is None:
        return None
    try:
        key = load_public_key(settings.capture_key_file)
    except BadCaptureKey as error:
        raise SettingsError(f"RINGFENCE_CAPTURE_KEY_FILE: {error}") from None
    return Vault(settings.ledger_dir / VAULT, key)


def _run(work: Coroutine[None, None, None], stack: AsyncExitStack) -> None:
    """Run ``work`` beside the requests until ``stack`` is closed."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait({task})

    stack.push_async_callback(end)


def app() -> ASGIApp:
    """The app of one worker process, from the environment."""
    settings = load_settings()
    configure_logs(settings.log_format, settings.log_level)
    return Proxy(settings).app
