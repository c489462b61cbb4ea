"""Why a version of the policy is not taken: the codes of log, metric and record."""

from __future__ import annotations

from enum import StrEnum

from proxy.errors import PolicyError


class Rejection(StrEnum):
    """Why a version was not taken."""

    UNUSABLE = "unusable"
    TESTS_FAILED = "tests_failed"
    OLDER_REVISION = "older_revision"
    REVISION_NOT_RAISED = "revision_not_raised"
    OTHER_PACK = "other_pack"
    EXPIRED = "expired"
    NO_TRUST_ROOT = "no_trust_root"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_SIGNER = "unknown_signer"
    NEEDS_SECOND_PERSON = "needs_second_person"
    STATE_UNREADABLE = "state_unreadable"


class PolicyRefused(PolicyError):
    """A version is not taken, for a reason that has a code."""

    def __init__(self, reason: Rejection, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
