"""Logging: structlog, JSON in production and readable on a terminal, from an allow-list of fields.

A field that is not named here is replaced, so that a new field is a reviewed change. Exceptions are
logged as their class name: a message or a traceback line may hold a user's words.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal

import structlog

#: Every field a log line may have. Values are codes, numbers, ids made by us, or names from our own
#: configuration; never text of a request, an answer or a provider.
ALLOWED_FIELDS: Final = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "action",
        "alternatives",
        "app",
        "attempt",
        "base_url",
        "cloud",
        "code",
        "completion_tokens",
        "confidence",
        "decision_id",
        "degraded",
        "destination",
        "elapsed_ms",
        "error",
        "error_type",
        "file",
        "findings",
        "host",
        "http_status",
        "languages",
        "line",
        "local",
        "logprobs",
        "method",
        "model",
        "num_cases",
        "policy",
        "policy_digest",
        "port",
        "problem",
        "prompt_tokens",
        "psi",
        "reason",
        "request_id",
        "revision",
        "route",
        "seconds",
        "share",
        "threshold",
        "unscannable",
        "version",
        "with_stream",
        "with_tools",
        "worker",
        "workers",
    }
)

_NOISY = ("openai", "httpx2", "httpcore2", "presidio-analyzer", "spacy", "transformers", "uvicorn")


def configure_logs(log_format: Literal["auto", "json", "console"], level: str) -> None:
    """Set structlog up for this process; libraries may warn, but not say what about."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            keep_allowed_fields,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[LibraryHandler()], level=logging.WARNING, force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def keep_allowed_fields(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> Mapping[str, Any]:
    """Replace what is not allowed: an unknown field by a mark, an exception by its class name."""
    kept: dict[str, Any] = {}
    for name, value in event.items():
        if name == "exc_info":
            error = value[1] if isinstance(value, tuple) else value
            kept["error"] = (
                type(error).__name__
                if isinstance(error, BaseException)
                else getattr(sys.exc_info()[0], "__name__", "unknown")
            )
        elif name in ALLOWED_FIELDS:
            kept[name] = type(value).__name__ if isinstance(value, BaseException) else value
        else:
            kept["problem"] = "a field was left out: it is not on the allow-list"
    return kept


class LibraryHandler(logging.Handler):
    """Passes on that a library warned, and which one; never what it said."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the library's name and level."""
        structlog.get_logger().warning(
            "library_warning",
            code=record.name if record.name.isascii() else "other",
            line=record.lineno,
            error=record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None,
        )
