"""The most that a request can cost: a bound on its tokens, from the bytes that leave.

It is an upper bound where the destination keeps to OpenAI's fields: it takes no token of less than
a byte, and writes no more than it was allowed. A body that holds anything whose price is not told
in tokens of text (pictures, audio, hosted tools, a field nobody here knows) has no bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.canonical import canonical_bytes
from proxy.egress.body import outgoing
from proxy.routes.route import Abroad
from proxy.types import JSON, JSONObject

#: Tokens that a destination adds by itself: the frame of each message (less than its JSON frame,
#: which is counted in bytes) and a system message of its chat template.
_TEMPLATE: Final = 256

#: More than any destination writes for one request.
_MAX_TOKENS: Final = 2**32

#: Fields that leave the price to the tokens in and out. Source: OpenAI API reference; vLLM's
#: OpenAI-compatible server for the samplers.
_FIELDS: Final = frozenset(
    "model messages prompt suffix input instructions max_tokens max_completion_tokens "
    "max_output_tokens n best_of temperature top_p top_k min_p stop seed presence_penalty "
    "frequency_penalty repetition_penalty logit_bias logprobs top_logprobs response_format text "
    "tools tool_choice parallel_tool_calls functions function_call reasoning_effort reasoning "
    "verbosity include truncation max_tool_calls dimensions encoding_format store".split()
)
_CONTENT: Final = ("messages", "input", "prompt")
_MEMBERS: Final = frozenset(
    "role content name type text refusal tool_calls tool_call_id function function_call arguments "
    "id call_id output input custom status summary annotations encrypted_content".split()
)
_TYPES: Final = frozenset(
    "text input_text output_text refusal message function custom function_call "
    "function_call_output custom_tool_call custom_tool_call_output reasoning summary_text "
    "reasoning_text".split()
)
_TOOLS: Final = frozenset({"function", "custom"})


@dataclass(frozen=True, slots=True)
class Bound:
    """The most tokens in and out, and what the body must say for that to hold."""

    prompt_tokens: int
    completion_tokens: int
    forced: tuple[tuple[str, int], ...]


def bound(body: JSONObject, model: str, call: Abroad, most: int) -> Bound | None:
    """The bound of ``body`` as ``call`` sends it; None: there is none.

    Args:
        body: the client's request, or what masking made of it.
        model: the model that is asked for.
        call: what its route sends.
        most: the most tokens that one answer may have.
    """
    sent = outgoing(body, model)
    if not _is_plain(sent):
        return None
    forced = tuple(_limits(sent, call, most))
    size = len(canonical_bytes({**sent, **call.forced, **dict(forced)}))
    tokens_in = size + _TEMPLATE * _num_prompts(sent)
    tokens_out = max((value for _, value in forced), default=0) * _num_answers(sent)
    return Bound(tokens_in, tokens_out, forced) if tokens_out <= _MAX_TOKENS else None


def _limits(body: JSONObject, call: Abroad, most: int) -> Iterable[tuple[str, int]]:
    """Each limit that the client set, lowered to ``most``; else the first that the route knows."""
    if not call.limits:
        return
    given = [name for name in call.limits if body.get(name) is not None]
    for name in given or call.limits[:1]:
        yield name, min(_count(body.get(name), call.usual_limit or most), most)


def _num_answers(body: JSONObject) -> int:
    answers = max(_count(body.get("n"), 1), _count(body.get("best_of"), 1))
    return answers * _num_prompts(body)


def _num_prompts(body: JSONObject) -> int:
    """How many prompts ``body`` holds; the text form of completions and embeddings take several."""
    found = body.get("prompt", body.get("input"))
    return max(1, len(found)) if isinstance(found, list) else 1


def _count(value: JSON, otherwise: int) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if is_count else otherwise  # type: ignore[return-value]


def _is_plain(body: JSONObject) -> bool:
    if not _FIELDS.issuperset(body):
        return False
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if not isinstance(tool, dict) or tool.get("type") not in _TOOLS:
            return False
    return all(_is_text(body.get(name)) for name in _CONTENT)


def _is_text(value: JSON) -> bool:
    if isinstance(value, list):
        return all(_is_text(one) for one in value)
    if not isinstance(value, dict):
        return True
    kind = value.get("type")
    return (
        (kind is None or (isinstance(kind, str) and kind in _TYPES))
        and _MEMBERS.issuperset(value)
        and all(_is_text(member) for member in value.values())
    )
