"""How uvicorn is set up."""

from __future__ import annotations

from proxy.api.protocol import StrictProtocol
from proxy.api.server import server_config
from proxy.settings import Settings
from tests.proxy.api.front_door import FrontDoor
from tests.proxy.api.test_gate import post


def test_nothing_is_trusted_and_nothing_is_told() -> None:
    config = server_config("a:b", Settings(), factory=True)
    assert config.http is StrictProtocol
    assert config.ws == "none"
    assert config.access_log is False
    assert config.proxy_headers is False
    assert config.server_header is False
    assert config.log_config is None


def test_answers_do_not_name_the_server(door: FrontDoor) -> None:
    head = door.raw(post()).partition(b"\r\n\r\n")[0].lower()
    assert b"server:" not in head
    assert b"uvicorn" not in head
