"""Every custom header of the proxy, with its meaning; `docs/headers.md` shows the same list.

A client's own ``x-ringfence-*`` headers mean nothing here: nothing reads them.
"""

from __future__ import annotations

from typing import Final

from proxy.types import Response

REQUEST_ID: Final = "x-request-id"
DECISION_ID: Final = "x-ringfence-decision-id"
ROUTE: Final = "x-ringfence-route"
REASON: Final = "x-ringfence-reason"
CONFIDENCE: Final = "x-ringfence-confidence"
THRESHOLD: Final = "x-ringfence-threshold"
DEGRADED: Final = "x-ringfence-degraded"

#: Sent with every answer.
OPEN_HEADERS: Final = {
    REQUEST_ID: "The id of this HTTP request; it stands in the proxy's log.",
    DECISION_ID: "The id of the policy decision; it stands in the ledger.",
}

#: Sent only where `expose_route_headers` or the key's scope `expose_route` allows it: they tell
#: a client what the policy thought of its text.
SCOPED_HEADERS: Final = {
    ROUTE: "Where the answer comes from: `local`, `cloud` or `refuse`.",
    REASON: "Why, as one word of the closed list in `proxy.types.RouteReason`.",
    CONFIDENCE: "The score of the local draft; left out when there is none.",
    THRESHOLD: "The score below which a draft escalates; left out when there is no score.",
    DEGRADED: "`true` when policy allowed a better answer than the one that could be given.",
}


def answer_headers(response: Response, *, expose_route: bool) -> dict[str, str]:
    """The custom headers of one answer, the request id left to the gate.

    Args:
        response: what the pipeline made.
        expose_route: whether this client may see route and confidence.
    """
    headers = {DECISION_ID: response.decision_id}
    if not expose_route:
        return headers
    headers[ROUTE] = response.route.target.value
    headers[REASON] = response.route.reason.value
    headers[DEGRADED] = "true" if response.route.degraded else "false"
    confidence = response.confidence
    if confidence is not None and confidence.score is not None:
        headers[CONFIDENCE] = f"{confidence.score:.4f}"
        headers[THRESHOLD] = f"{confidence.threshold:.4f}"
    return headers
