"""The leak matrix before the whole proxy: what the drill and the page in docs/ share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from demo.stand_in_cloud import Recorded, Reply, StandInCloud
from proxy.selfcheck.cells import Cell, Condition
from proxy.selfcheck.puts import FORM_ROUTES
from tests.harness import RunningProxy, free_port, running_proxy, write_policy

MODELS = ("ringfence", "gpt-4o-mini")

#: Routes that no destination is ever asked for.
HOME_ROUTES = frozenset({"moderations", "images", "speech", *FORM_ROUTES})

#: What cannot be read and so stays, harmless or not.
UNREADABLE = frozenset(
    {"picture of text", "note in a picture", "picture elsewhere", "sound", "row of character codes"}
)

#: Harmless texts that are taken for something else in this form: digits that may be a telephone's.
MISTAKEN = frozenset({"spaced hex"})


def stays_anyway(cell: Cell) -> bool:
    """Whether the harmless twin of ``cell`` stays at home too."""
    if cell.route.name == "embeddings" and cell.condition is not Condition.MODEL:
        return True  # vectors of two models cannot be compared: only a model's own name leaves
    return (
        cell.condition is Condition.DETECTOR
        or cell.route.name in HOME_ROUTES
        or cell.position.name in UNREADABLE | MISTAKEN
    )


def _unsure(recorded: Recorded) -> Reply:
    """The local stand-in: a short answer to anything, not at all sure of it."""
    if recorded.path.endswith("/speech"):
        return Reply(body=b"RIFF", headers=(("content-type", "audio/wav"),))
    if "/audio/" in recorded.path:
        return Reply(body=b'{"text": "Noted."}')
    if "/images/" in recorded.path:
        return Reply(body=b'{"created": 0, "data": [{"b64_json": ""}]}')
    body = json.loads(recorded.body or b"{}")
    head = {"id": "c", "created": 0, "model": body.get("model")}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    words = (("Noted", -5.0), (".", -4.0))
    if recorded.path.endswith("/embeddings"):
        vector = {"object": "embedding", "index": 0, "embedding": [1.0, 0.0]}
        answer = {**head, "object": "list", "data": [vector], "usage": usage}
    elif recorded.path.endswith("/chat/completions"):
        tokens = [
            {"token": word, "logprob": score, "bytes": list(word.encode()), "top_logprobs": []}
            for word, score in words
        ]
        message = {"role": "assistant", "content": "Noted."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        scored = {**choice, "logprobs": {"content": tokens}}
        answer = {**head, "object": "chat.completion", "choices": [scored], "usage": usage}
    else:
        scores = {"tokens": [w for w, _ in words], "token_logprobs": [s for _, s in words]}
        choice = {"index": 0, "text": "Noted.", "finish_reason": "stop", "logprobs": scores}
        answer = {**head, "object": "text_completion", "choices": [choice], "usage": usage}
    return Reply(body=json.dumps(answer).encode())


@contextmanager
def proxy_under(condition: Condition, cloud_url: str, folder: Path) -> Iterator[RunningProxy]:
    """A whole proxy of two server processes, in front of a recorder, under a condition.

    Its home and its folder for temporary files lie in ``folder``, so that they can be searched.
    """
    (folder / "tmp").mkdir(parents=True)
    edit = ("on_local_failure: refuse", "on_local_failure: cloud")
    env = {
        "RINGFENCE_WORKERS": "2" if condition is Condition.NONE else "1",
        "RINGFENCE_EXPOSE_METRICS": "true",
        "RINGFENCE_EXPOSE_ROUTE_HEADERS": "true",
        "RINGFENCE_MAX_CLOUD_REQUESTS_PER_MINUTE": "100000",
        "RINGFENCE_POLICY_FILE": str(write_policy(folder, cloud_url, [edit])),
        "TMPDIR": str(folder / "tmp"),
        "HOME": str(folder),
    }
    with ExitStack() as stack:
        if condition is Condition.LOCAL:
            env["RINGFENCE_LOCAL_BASE_URL"] = f"http://127.0.0.1:{free_port()}/v1"
        else:
            local = stack.enter_context(StandInCloud(reply=_unsure))
            env["RINGFENCE_LOCAL_BASE_URL"] = local.base_url
        if condition is Condition.DETECTOR:
            env["RINGFENCE_INSPECTION_TIMEOUT_S"] = "0.000001"
        ready = "/healthz" if condition is Condition.LOCAL else "/readyz"
        yield stack.enter_context(running_proxy(folder, cloud_url, env, ready=ready))


def by_proxy(cells: Sequence[Cell]) -> dict[Condition, tuple[Cell, ...]]:
    """The cells by the proxy that they need: all that come from outside share one."""
    apart = (Condition.DETECTOR, Condition.LOCAL)
    found: dict[Condition, list[Cell]] = {}
    for cell in cells:
        of = cell.condition if cell.condition in apart else Condition.NONE
        found.setdefault(of, []).append(cell)
    return {condition: tuple(these) for condition, these in found.items()}
