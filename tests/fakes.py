"""Stand-ins for the parts around the one under test; each does what its contract says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from audit.permit import Permit
from proxy.egress.live import Incoming
from proxy.errors import CloudError, LocalBackendError
from proxy.inspection.recognizers import NO_RECOGNIZERS, Recognizers
from proxy.inspection.surface import surface
from proxy.routes.route import Abroad
from proxy.types import (
    Coverage,
    Destination,
    Draft,
    Finding,
    Inspection,
    JSONObject,
    Outcome,
    Request,
)
from tests.factories import a_draft


@dataclass
class FakeInspector:
    """Reads the surface for real, and finds what it is told to find."""

    findings: tuple[Finding, ...] = ()

    async def inspect(
        self, body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS, caller: str = ""
    ) -> Inspection:
        found = surface(body)
        coverage = Coverage(found.num_strings, len(found.segments), found.num_structural, 0)
        return Inspection(
            found.segments,
            self.findings,
            found.unscannable,
            coverage,
            ("en",),
            (("fake", "1"),),
            1.0,
        )


@dataclass
class FakeLocal:
    """Answers with one draft, or fails; counts how often it was asked."""

    draft: Draft = field(default_factory=a_draft)
    fault: LocalBackendError | None = None
    delay_s: float = 0.0
    num_asked: int = 0

    async def generate(self, request: Request) -> Draft:
        self.num_asked += 1
        await asyncio.sleep(self.delay_s)
        if self.fault is not None:
            raise self.fault
        return self.draft

    async def probe(self) -> bool:
        return self.fault is None


@dataclass
class FakeCloud:
    """Redeems the permit, keeps the body, and answers or fails; or says the last message again."""

    fault: CloudError | None = None
    echoes: bool = False
    bodies: list[bytes] = field(default_factory=list)

    def has_key(self, destination: Destination) -> bool:
        return True

    async def complete(
        self, body: bytes, destination: Destination, permit: Permit, call: Abroad
    ) -> Outcome:
        from proxy.egress.transport import origin_of

        permit.redeem(body, origin_of(destination.base_url))
        self.bodies.append(body)
        if self.fault is not None:
            raise self.fault
        said = json.loads(body)["messages"][-1]["content"] if self.echoes else "From afar."
        answer: JSONObject = {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": said}}]
        }
        return Outcome(200, answer, "gpt-4o-mini", 1, 1, len(body), 10, 1.0)

    async def stream(
        self,
        body: bytes,
        destination: Destination,
        permit: Permit,
        call: Abroad,
        incoming: Incoming,
    ) -> Outcome:
        return await self.complete(body, destination, permit, call)  # it ignores ``stream``


def texts_of(bodies: Sequence[bytes]) -> str:
    """All bodies as one text."""
    return b"\n".join(bodies).decode()
