"""Faults of the ledger. None of them holds text of a request.

AuditError
├── LedgerUnwritable   the record could not be made durable; nothing may leave
│   └── ChainLost      another writer went on with this chain; a new one must be begun
└── PermitRefused      a permit was used for other bytes, another place, twice or too late
"""

from __future__ import annotations


class AuditError(Exception):
    """A fault of the ledger, with a stable code and a message safe to show."""

    code = "audit_error"


class LedgerUnwritable(AuditError):
    """A record could not be made durable. It is refused, not queued: the caller must not go on."""

    code = "ledger_unwritable"


class ChainLost(LedgerUnwritable):
    """Another writer adopted this chain, or has it: nothing more can be written to it from here."""

    code = "ledger_unwritable"


class PermitRefused(AuditError):
    """A permit does not cover what it was shown."""

    code = "permit_refused"
