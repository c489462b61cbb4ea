"""Builds every part of the proxy, in one ordered list; the only place that picks them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp

from audit.errors import AuditError
from audit.keys import load_or_make_key
from audit.ledger import Ledger
from proxy import __version__
from proxy.api.app import create_app
from proxy.api.auth import KeyTable
from proxy.egress.attempt import CloudTier
from proxy.egress.cloud import OpenAICloud
from proxy.egress.limit import AttemptLimit
from proxy.egress.transport import Door
from proxy.errors import ProxyError, SettingsError
from proxy.inspection.registry import DetectorConfig
from proxy.inspection.run import ProcessInspector
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.logs import configure_logs
from proxy.notices import Notices
from proxy.pins import PinStore
from proxy.pipeline import AUTO_MODEL, Parts, Pipeline
from proxy.policy.model import Policy
from proxy.policy.reload import PolicyKeeper, Reload
from proxy.policy.switch import EgressSwitch
from proxy.routing.logprob import MeanLogprobEstimator
from proxy.settings import Settings, load_settings
from proxy.types import Request, Response

log = structlog.get_logger()

_NO_KEY = "none: local-only (no OPENAI_API_KEY)"


class Proxy:
    """One server process, from its settings to its open parts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keeper = PolicyKeeper(settings.policy_file, self._reloaded)
        self._switch = EgressSwitch(settings.data_dir)
        self._notices: Notices | None = None
        self._keys = KeyTable.load(settings.keys_file)
        self._pipeline: Pipeline | None = None
        self._ledger: Ledger | None = None
        self._local: OpenAIHTTPBackend | None = None

    @property
    def app(self) -> ASGIApp:
        """The ASGI app; its lifespan opens and closes the parts."""
        return create_app(
            self,
            settings=self._settings,
            keys=self._keys,
            models=self.models,
            readiness=self.missing,
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
        cloud = [m for d in self.policy().content.destinations for m in d.models]
        return tuple(dict.fromkeys((AUTO_MODEL, self._settings.local_model, *cloud)))

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
        self._ledger = Ledger.open(settings.ledger_dir, keys_dir=keys_dir)
        stack.push_async_callback(self._ledger.close)
        # 2. the detectors, in processes of their own
        inspector = ProcessInspector(
            num_workers=settings.inspection_workers,
            timeout_s=settings.inspection_timeout_s,
            config=DetectorConfig(settings.languages, settings.token_model_dir),
        )
        stack.push_async_callback(inspector.aclose)
        await inspector.start()
        # 3. what pinned exchanges said
        pins = PinStore(
            settings.data_dir / "pins.sqlite3",
            load_or_make_key(keys_dir / "pins.key"),
            settings.pin_ttl_s,
        )
        stack.callback(pins.close)
        # 4. the two tiers
        self._local = self._open_local()
        stack.push_async_callback(self._local.aclose)
        cloud = self._open_cloud(self._ledger, stack)
        # 5. the flow over them
        parts = Parts(
            inspector=inspector,
            policy=self.policy,
            models=self.models,
            local=self._local,
            local_model=settings.local_model,
            estimator=MeanLogprobEstimator(settings.confidence_threshold),
            ledger=self._ledger,
            pins=pins,
            cloud=cloud,
        )
        await self._say_start(self._ledger, cloud)
        # 6. what may change while it runs
        self._notices = Notices(self._ledger)
        _run(self._keeper.watch(), stack)
        _run(self._notices.watch(self._switch), stack)
        return parts

    def _reloaded(self, reload: Reload) -> None:
        if self._notices is not None:
            self._notices.reloaded(reload)

    def _open_local(self) -> OpenAIHTTPBackend:
        settings = self._settings
        if settings.local_base_url is None:
            raise SettingsError("no local endpoint: `ringfence serve` starts the embedded one")
        key = settings.local_api_key
        return OpenAIHTTPBackend(
            settings.local_base_url,
            settings.local_model,
            api_key=key.get_secret_value() if key else None,
            timeout_s=settings.local_timeout_s,
        )

    def _open_cloud(self, ledger: Ledger, stack: AsyncExitStack) -> CloudTier | None:
        settings = self._settings
        if settings.cloud_api_key is None:
            return None
        door = Door(ca_file=settings.cloud_ca_file)
        stack.push_async_callback(door.aclose)
        backend = OpenAICloud(
            door,
            api_key=settings.cloud_api_key.get_secret_value(),
            timeout_s=settings.cloud_timeout_s,
        )
        limit = AttemptLimit(settings.max_cloud_requests_per_minute)
        tier = CloudTier(backend, ledger, limit, self._switch.is_on)
        stack.push_async_callback(tier.aclose)
        return tier

    async def _say_start(self, ledger: Ledger, cloud: CloudTier | None) -> None:
        """Put the start on the record and in the log."""
        policy = self.policy()
        content = policy.content
        await ledger.event("policy.loaded", {"digest": policy.digest, "revision": content.revision})
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
            cloud=(destinations or "none in the policy") if cloud else _NO_KEY,
        )


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
