"""Logs: an allow-list of fields, and no words of an exception."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from proxy.logs import configure_logs


@pytest.fixture(autouse=True)
def _json_logs() -> None:
    configure_logs("json", "debug")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_field_that_is_not_allowed_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger().info("answered", decision_id="dec_1", text="canary")
    (line,) = lines(capsys)
    assert line["decision_id"] == "dec_1"
    assert "canary" not in json.dumps(line)
    assert "problem" in line


def test_an_exception_is_its_class_name(capsys: pytest.CaptureFixture[str]) -> None:
    log = structlog.get_logger()
    try:
        raise ValueError("canary")
    except ValueError as error:
        log.exception("failed")
        log.error("failed", error=error)
        log.error("failed", exc_info=error)
    told = lines(capsys)
    assert [line["error"] for line in told] == ["ValueError"] * 3
    assert "canary" not in json.dumps(told)


def test_a_library_may_warn_but_not_say_what_about(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("some.library").warning("the text was %s", "canary")
    logging.getLogger("some.library").info("the text was %s", "canary")
    (line,) = lines(capsys)
    assert (line["event"], line["code"]) == ("library_warning", "some.library")
    assert "canary" not in json.dumps(line)


def test_a_terminal_gets_no_traceback_either(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("console", "debug")
    try:
        raise ValueError("canary")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "canary" not in capsys.readouterr().err
