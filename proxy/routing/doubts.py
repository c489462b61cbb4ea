"""Signs of doubt in the words of a draft: hedging phrases, `<unk>` tokens, and no words at all.

Source: Xin, "Hybrid Cloud Architecture for Efficient and Cost-Effective LLM Deployment", section
2.1.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.routes.saying import choices_of, texts_said
from proxy.types import Draft

#: Phrases with which a model says that it does not know. Source: the paper names the first three;
#: the others are their plain variants in English. Compared in lower case, at word borders.
HEDGES: Final = (
    "i'm not sure",
    "i am not sure",
    "i don't know",
    "i do not know",
    "i'm not certain",
    "i am not certain",
    "i'm unsure",
    "i am unsure",
    "i cannot answer",
    "i can't answer",
    "i cannot determine",
    "i have no information",
    "i don't have information",
    "i don't have enough information",
    "it is unclear",
    "it's unclear",
    "not enough information",
    "as far as i know",
    "i'm sorry, but i",
)

_HEDGE_PATTERN: Final = re.compile(
    r"(?<!\w)(?:" + "|".join(re.escape(phrase) for phrase in HEDGES) + r")(?!\w)"
)
_APOSTROPHES: Final = str.maketrans({mark: "'" for mark in "\u2018\u2019\u02bc\u00b4`\uff07"})

SPECIAL_TOKENS: Final = ("<unk>", "[UNK]")

#: The sign of an answer that says nothing and calls nothing, however surely it ended.
EMPTY: Final = "empty_answer"


def doubts_of(draft: Draft) -> tuple[str, ...]:
    """Signs of doubt in the words of ``draft``, as codes made of our own phrases."""
    text = draft.text.translate(_APOSTROPHES).casefold()
    hedges = dict.fromkeys(f"hedge:{match[0]}" for match in _HEDGE_PATTERN.finditer(text))
    special = [f"special_token:{token}" for token in SPECIAL_TOKENS if token in draft.tokens]
    return (*hedges, *special, *((EMPTY,) if _is_empty(draft) else ()))


def _is_empty(draft: Draft) -> bool:
    """Whether the answer, as its client would get it, holds nothing; unknown without a body."""
    messages = [choice.get("message", choice) for choice in choices_of(draft.body)]
    calls = any(
        message.get(name)
        for message in messages
        if isinstance(message, dict)
        for name in ("tool_calls", "function_call", "audio")
    )
    return bool(messages) and not calls and not any(map(str.strip, texts_said(draft.body)))
