"""P5: no log line, error, header or record holds matched text, nor its unkeyed digest."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.parse

import pytest

from demo.stand_in_cloud import Reply, StandInCloud
from tests.harness import RunningProxy

CANARIES = {
    "content": "zq7-Marwolin Feathersby lives at 99 Quagmire Street, mw.feather@canary-box.org",
    "model": "card-4012888888881881",
    "user": "canary.user@canary-box.org",
    "metadata": "canary-meta-8821 +1 415 555 0132",
    "unknown": "GB82 WEST 1234 5698 7654 32 canary-unknown",
    "tool": "canary-tool 123-45-6789",
}


def forms(text: str) -> list[bytes]:
    """The ways in which a text could stand in a file."""
    raw = text.encode()
    return [
        raw,
        raw[::-1],
        base64.b64encode(raw).rstrip(b"="),
        raw.hex().encode(),
        urllib.parse.quote(text).encode(),
        json.dumps(text)[1:-1].encode(),
        hashlib.sha256(raw).hexdigest().encode(),
        hashlib.md5(raw, usedforsecurity=False).hexdigest().encode(),
    ]


def a_body(model: str) -> bytes:
    return json.dumps(
        {
            "model": model,
            "messages": [
                {"role": "user", "content": CANARIES["content"]},
                {"role": "tool", "tool_call_id": "c", "content": CANARIES["tool"]},
            ],
            "user": CANARIES["user"],
            "metadata": {"k": CANARIES["metadata"], CANARIES["metadata"]: "v"},
            "x": {"y": [CANARIES["unknown"]]},
            "max_tokens": 4,
        }
    ).encode()


REQUESTS = {
    "answered": a_body("ringfence"),
    "unknown model": a_body(CANARIES["model"]),
    "broken json": a_body("ringfence")[:-5],
    "duplicate key": a_body("ringfence")[:-1] + b', "user": "x"}',
    "wrong type": json.dumps({"model": "ringfence", "messages": CANARIES["content"]}).encode(),
    "wrong role": json.dumps(
        {"model": "ringfence", "messages": [{"role": CANARIES["content"], "content": "x"}]}
    ).encode(),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_no_canary_is_written_or_echoed(
    name: str, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    response = proxy.post(
        REQUESTS[name],
        **{"x-canary": "canary-header-5512", "authorization": "Bearer canary-key-7741"},
    )
    counts = proxy.metrics()
    assert b"ringfence_http_responses_total{" in counts
    written = proxy.everything_written() + counts
    echoed = response.content + str(response.headers).encode()
    if response.status_code == 200:
        echoed = str(response.headers).encode()  # the model may repeat what it was told
    for canary in [*CANARIES.values(), "canary-header-5512", "canary-key-7741"]:
        for form in forms(canary):
            assert form not in written
            assert form not in echoed
    assert cloud.requests == []


def test_an_error_of_the_cloud_is_not_passed_on(proxy: RunningProxy, cloud: StandInCloud) -> None:
    cloud.reply = lambda _: Reply(
        status=400, body=b'{"error":{"message":"canary-provider-3391","code":"canary-code-1"}}'
    )
    response = proxy.post(
        json.dumps(
            {
                "model": "ringfence",
                "messages": [{"role": "user", "content": "Name a river."}],
                "max_tokens": 4,
            }
        ).encode()
    )
    assert len(cloud.requests) == 1
    for place in (response.content, str(response.headers).encode(), proxy.everything_written()):
        assert b"canary-provider" not in place
        assert b"canary-code" not in place


def test_every_file_of_the_data_folder_is_private(proxy: RunningProxy, cloud: StandInCloud) -> None:
    modes = {
        str(path.relative_to(proxy.data_dir)): oct(path.stat().st_mode & 0o077)
        for path in proxy.data_dir.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077
    }
    public_by_design = {name for name in modes if name.endswith(".pub") or "keys/" in name}
    assert set(modes) - public_by_design == set()
