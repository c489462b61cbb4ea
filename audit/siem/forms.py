"""The forms that SIEMs read: syslog messages, OTLP log records, lines of JSON.

A record's line goes along byte for byte, so that whoever has the copy can check it: it is one line
of ASCII JSON, which needs no escaping in any of these forms.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from audit.siem.source import Item

#: Facility 13 is "log audit" (RFC 5424, section 6.2.1).
_FACILITY: Final = 13
_WARNING: Final = 4
_INFO: Final = 6

#: Kinds that a person should look at.
_WARN: Final = frozenset(
    {"recovery", "policy.rejected", "egress.refused", "egress.switch", "hmac_key.destroyed"}
)


def syslog_message(item: Item, host: str) -> bytes:
    """One message of RFC 5424; the chain is its process id and the kind its message id."""
    severity = _WARNING if item.kind in _WARN else _INFO
    head = f"<{_FACILITY * 8 + severity}>1 {item.time} {host} ringfence {item.chain} {item.kind} -"
    return f"{head} {item.text}".encode("ascii", "replace")


def counted(message: bytes) -> bytes:
    """``message`` framed by its length, for a stream (RFC 6587, section 3.4.1; RFC 5425)."""
    return b"%d %s" % (len(message), message)


def json_lines(items: Sequence[Item]) -> bytes:
    """One line of JSON for each item."""
    return b"".join(item.text.encode() + b"\n" for item in items)


def otlp_logs(items: Sequence[Item]) -> bytes:
    """A request of OTLP/HTTP in JSON.

    Source: opentelemetry-proto, collector/logs/v1, ExportLogsServiceRequest.
    """
    service = {"key": "service.name", "value": {"stringValue": "ringfence"}}
    records = [_otlp_record(item) for item in items]
    scope = {"scope": {"name": "ringfence.audit"}, "logRecords": records}
    return json.dumps(
        {"resourceLogs": [{"resource": {"attributes": [service]}, "scopeLogs": [scope]}]}
    ).encode()


def _otlp_record(item: Item) -> dict[str, object]:
    is_warning = item.kind in _WARN
    named = {"log.record.uid": item.id, "ringfence.chain": item.chain}
    return {
        "timeUnixNano": str(_nanoseconds(item.time)),
        "severityNumber": 13 if is_warning else 9,
        "severityText": "WARN" if is_warning else "INFO",
        "eventName": f"ringfence.{item.kind}",
        "body": {"stringValue": item.text},
        "attributes": [
            {"key": key, "value": {"stringValue": value}} for key, value in named.items()
        ],
    }


def _nanoseconds(time: str) -> int:
    since = datetime.fromisoformat(time) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
