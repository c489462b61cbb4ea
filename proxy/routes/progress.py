"""How far an answer has come that comes in chunks: which of its choices ended, what it took."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.routes.saying import choices_of
from proxy.types import JSON, JSONObject


@dataclass(slots=True)
class Progress:
    """What the chunks so far say of an answer.

    ``finish`` has the reason for which each choice ended, None for one that goes on; ``usage`` is
    the last that was told.
    """

    usage: JSON = None
    finish: dict[int, str | None] = field(default_factory=dict)

    def note(self, chunk: JSONObject) -> None:
        """Take in a chunk."""
        self.usage = chunk.get("usage") or self.usage
        for choice in choices_of(chunk):
            reason, index = choice.get("finish_reason"), choice.get("index")
            if isinstance(index, int):
                known = self.finish.get(index)
                self.finish[index] = known if reason is None else str(reason)

    @property
    def has_ended(self) -> bool:
        """Whether each choice that began has ended."""
        return bool(self.finish) and all(reason is not None for reason in self.finish.values())
