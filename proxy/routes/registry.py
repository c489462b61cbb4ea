"""Every route that the pipeline answers, in the order of the docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.routes.chat import CHAT
from proxy.routes.completions import COMPLETIONS
from proxy.routes.embeddings import EMBEDDINGS
from proxy.routes.media import (
    EDITS,
    IMAGES,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    VARIATIONS,
)
from proxy.routes.moderations import MODERATIONS
from proxy.routes.responses import RESPONSES
from proxy.routes.route import ApiRoute
from proxy.routes.speech import SPEECH

ROUTES: Final[Mapping[str, ApiRoute]] = {
    route.name: route
    for route in (
        CHAT,
        COMPLETIONS,
        RESPONSES,
        EMBEDDINGS,
        MODERATIONS,
        IMAGES,
        EDITS,
        VARIATIONS,
        SPEECH,
        TRANSCRIPTIONS,
        TRANSLATIONS,
    )
}
