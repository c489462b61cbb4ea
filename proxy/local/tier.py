"""The local tier as a whole: an endpoint for words, and others for vectors, sound and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.errors import LocalBackendError
from proxy.local.live import LocalStream, Watch
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.local.places import places
from proxy.local.probe import Abilities
from proxy.routes.registry import ROUTES
from proxy.routes.route import Escalation
from proxy.settings import Settings
from proxy.types import AUTO_MODEL, Draft, Request


class LocalTier:
    """The `LocalBackend` over the endpoints of the local tier."""

    def __init__(
        self, words: OpenAIHTTPBackend, others: Mapping[str, OpenAIHTTPBackend] | None = None
    ) -> None:
        """Join endpoints: ``others`` by the name of their route, ``words`` for all the rest."""
        self._words = words
        self._others = others or {}

    @classmethod
    def of(cls, settings: Settings, words_url: str) -> LocalTier:
        """The endpoints that ``settings`` name; the one for words is at ``words_url``."""
        others = {}
        for place in places(settings):
            if place.base_url is None and place.model is None:
                continue
            url, model = place.base_url or words_url, place.model or settings.local_model
            backend = OpenAIHTTPBackend.of(settings, url, model)
            others.update(dict.fromkeys(place.routes, backend))
        words = OpenAIHTTPBackend.of(
            settings,
            words_url,
            settings.local_model,
            tells_caller=settings.local_base_url is None,
        )
        return cls(words, others)

    async def generate(self, request: Request) -> Draft:
        """Answer ``request``; see `LocalBackend`."""
        backend = self._others.get(request.route, self._words)
        by_model = ROUTES[request.route].escalation is Escalation.BY_MODEL
        if by_model and request.model not in (AUTO_MODEL, backend.model):
            raise LocalBackendError(
                f"On-premises this route has the model {backend.model} only, and what another "
                "model makes cannot take its place.",
                unable=True,
            )
        return await backend.generate(request)

    async def generate_until(self, request: Request, doomed: Callable[[float], bool]) -> Draft:
        """Answer ``request``, or give it up; see `WatchedBackend`."""
        if request.route in self._others:
            return await self.generate(request)
        return await self._words.generate_until(request, doomed)

    async def begin(self, request: Request, watch: Watch | None = None) -> Draft | LocalStream:
        """Answer ``request`` while the answer is written; see `FlowingBackend`."""
        if request.route in self._others:
            return await self.generate(request)
        return await self._words.begin(request, watch)

    async def learn(self) -> Abilities | None:
        """Probe what the endpoint for words gives; see `OpenAIHTTPBackend.learn`."""
        return await self._words.learn()

    async def probe(self) -> bool:
        """Whether the endpoint for words answers; without the others most routes work."""
        return await self._words.probe()

    async def aclose(self) -> None:
        """Close every connection."""
        for backend in {self._words, *self._others.values()}:
            await backend.aclose()
