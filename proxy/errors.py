"""Every fault of the proxy. None of them holds user text, in message, attribute or cause.

ProxyError              code, http_status, public_message
├── SettingsError       start only
├── PolicyError         start or reload: file, line, key, fix
├── RequestError        4xx: the client's request cannot be taken
├── InspectionError     503: the inspection could not run at all
├── LocalBackendError   503: the local tier did not answer; 400: it cannot serve this request
├── EgressDenied        500: somebody asked the door for what the decision forbids; our bug
└── CloudError          502, 504: status, provider code, upstream request id; never a body

`audit.errors.AuditError` stands apart, as `audit/` stands alone.

An outcome is a value, a fault is an exception: a blocked request is a `Decision`, not an error.
"""

from __future__ import annotations

from typing import Final

#: Codes of faults that came before anything can have left, and that may pass.
NOTHING_LEFT: Final = frozenset(
    {
        "inspection_unavailable",
        "ledger_unwritable",
        "local_unavailable",
        "overloaded",
        "starting",
    }
)

#: The code of a request that policy turns away.
BLOCKED: Final = "blocked_by_policy"


class ProxyError(Exception):
    """A fault with a stable code and a message that is safe to show to anyone."""

    code = "internal_error"
    http_status = 500
    error_type = "server_error"

    def __init__(
        self,
        public_message: str,
        *,
        code: str | None = None,
        http_status: int | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(public_message)
        self.public_message = public_message
        self.param = param
        if code is not None:
            self.code = code
        if http_status is not None:
            self.http_status = http_status

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        """The error in OpenAI's JSON form."""
        return error_body(
            self.public_message, error_type=self.error_type, code=self.code, param=self.param
        )


def error_body(
    message: str, *, error_type: str, code: str, param: str | None = None
) -> dict[str, dict[str, str | None]]:
    """An error in OpenAI's JSON form (``error.message``, ``.type``, ``.param``, ``.code``)."""
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


class SettingsError(ProxyError):
    """A setting is unknown, missing or unsafe; the proxy does not start."""

    code = "invalid_settings"


class PolicyError(ProxyError):
    """A policy file cannot be used; says file, line, key and the mend."""

    code = "invalid_policy"


class RequestError(ProxyError):
    """The client's request cannot be taken; says where (a JSON path we know, or a byte offset)."""

    code = "invalid_request"
    http_status = 400
    error_type = "invalid_request_error"


class InspectionError(ProxyError):
    """The inspection could not run at all, or saw no text where the body has text."""

    code = "inspection_unavailable"
    http_status = 503


class LocalBackendError(ProxyError):
    """The local tier did not answer.

    ``unable`` tells a request the local model cannot serve (tools, images, context length) from
    a tier that is down. It is then the request's fault: a client that tries again only waits.
    """

    code = "local_unavailable"
    http_status = 503

    def __init__(
        self,
        public_message: str,
        *,
        unable: bool = False,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(public_message, param=param)
        self.unable = unable
        if unable:
            self.code = code or "unsupported_by_local"
            self.http_status = RequestError.http_status
            self.error_type = RequestError.error_type


class EgressDenied(ProxyError):
    """The door was asked for what the decision, the permit or the record forbids."""

    code = "egress_denied"


class CloudError(ProxyError):
    """The cloud destination did not answer well.

    ``upstream_status`` is None when no answer came. ``sent`` is "no" only if no byte was written.
    """

    code = "cloud_unavailable"
    http_status = 502

    def __init__(
        self,
        public_message: str,
        *,
        error_type: str,
        upstream_status: int | None = None,
        sent: str = "unknown",
        http_status: int | None = None,
    ) -> None:
        super().__init__(public_message, http_status=http_status)
        self.upstream_error = error_type
        self.upstream_status = upstream_status
        self.sent = sent
        self.provider_request_id: str | None = None  # set where an answer came, of a known form


class AnswerWithheld(CloudError):
    """The cloud's answer is not given out: what policy looks for stands in it, or it is unread."""

    code = "answer_withheld"

    def __init__(self) -> None:
        super().__init__(
            "The cloud's answer is withheld by your organization's policy.",
            error_type="withheld",
            sent="yes",
        )
