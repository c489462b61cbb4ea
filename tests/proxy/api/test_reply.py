"""Faults in OpenAI's form, and the page of their codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from audit.errors import LedgerUnwritable
from proxy.api.reply import fault_body, fault_reply
from proxy.errors import CloudError, LocalBackendError, ProxyError, RequestError
from tests.proxy.api.front_door import CANARY

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RequestError("No.", code="duplicate_key", param="a"), 400, "duplicate_key"),
        (LocalBackendError("Down."), 503, "local_unavailable"),
        (LocalBackendError("No tools.", unable=True), 400, "unsupported_by_local"),
        (CloudError("Down.", error_type="x", http_status=504), 504, "cloud_unavailable"),
        (ProxyError("Hm."), 500, "internal_error"),
        (LedgerUnwritable(CANARY), 503, "ledger_unwritable"),
        (ValueError(CANARY), 500, "internal_error"),
        (KeyboardInterrupt(CANARY), 500, "internal_error"),
    ],
)
def test_every_fault_has_status_code_and_no_text(
    error: BaseException, status: int, code: str
) -> None:
    got, body = fault_body(error)
    assert (got, body["error"]["code"]) == (status, code)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert CANARY.encode() not in bytes(fault_reply(error).body)


def test_statuses_that_need_a_header_have_it() -> None:
    assert fault_reply(LocalBackendError("Down.")).headers["retry-after"] == "1"
    denied = RequestError("No.", http_status=401)
    assert fault_reply(denied).headers["www-authenticate"] == "Bearer"


def test_the_page_lists_every_code() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    sources = [
        *(ROOT / "proxy").glob("*.py"),
        *(ROOT / "proxy" / "egress").glob("*.py"),
        ROOT / "proxy" / "local" / "openai_http.py",
        ROOT / "audit" / "errors.py",
        *(ROOT / "proxy" / "api").glob("*.py"),
    ]
    codes = {
        code
        for source in sources
        for code in re.findall(r'\bcode ?= ?"([a-z_]+)"', source.read_text())
    }
    assert {code for code in codes if f"`{code}`" not in page} == set()
