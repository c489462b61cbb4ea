"""A language model as the judge of answers in words, which no rule can grade.

It is asked with the answer that counts beside the one to judge, and only where no grade is on
record. Source: Zheng et al., arXiv 2306.05685, section 3: reference-guided judging.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from proxy.errors import LocalBackendError
from proxy.local.backend import LocalBackend
from proxy.routing.collect import request_of
from proxy.routing.rows import Item

#: Room for a verdict with a word before it; the first of the two words counts.
_MAX_TOKENS: Final = 16

_VERDICT: Final = re.compile(r"\b(incorrect|not\s+correct|correct)\b", re.IGNORECASE)

_ASKED: Final = """\
You grade an answer to a question. The reference answers are right.
The answer is correct if it says the same as one of them, in whatever words, and nothing against it.

Question: {question}

Reference answers: {answers}

Answer: {said}

Is the answer correct? Reply with one word: CORRECT or INCORRECT."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Grades answers by asking ``model``, at an endpoint on the premises."""

    model: LocalBackend

    async def is_right(self, said: str, item: Item) -> bool:
        """Whether ``said`` answers ``item``. Nothing said is wrong, and nobody is asked.

        Raises:
            LocalBackendError: the judge failed, or gave no verdict.
        """
        if not said.strip():
            return False
        text = _ASKED.format(question=item.prompt, answers=" | ".join(item.answers), said=said)
        asked = request_of(replace(item, question=text, choices=()))
        body = {**asked.body, "max_tokens": _MAX_TOKENS}
        told = await self.model.generate(replace(asked, body=body))
        verdict = _VERDICT.search(told.text)
        if verdict is None:
            raise LocalBackendError(f"{item.id}: the judge gave no verdict.")
        return verdict[1].casefold() == "correct"
