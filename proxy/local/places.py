"""Which endpoint of the local tier answers which routes: one of their own, or the one for words.

All of them are on our own premises, and each is asked with the key of its host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.address import host_of
from proxy.routes.embeddings import EMBEDDINGS
from proxy.routes.media import EDITS, IMAGES, TRANSCRIPTIONS, TRANSLATIONS, VARIATIONS
from proxy.routes.speech import SPEECH
from proxy.settings import Settings


@dataclass(frozen=True, slots=True)
class Place:
    """What the settings say of the endpoint for some routes, by their names.

    ``name`` is what `ringfence check` calls it, and how its settings begin. ``base_url`` and
    ``model`` None: those for words.
    """

    name: str
    routes: tuple[str, ...]
    base_url: str | None
    model: str | None


def places(settings: Settings) -> tuple[Place, ...]:
    """Every endpoint beside the one for words."""
    ears = (TRANSCRIPTIONS.name, TRANSLATIONS.name)
    pictures = (IMAGES.name, EDITS.name, VARIATIONS.name)
    return (
        Place(
            "embedding",
            (EMBEDDINGS.name,),
            settings.embedding_base_url,
            settings.embedding_model,
        ),
        Place("speech", (SPEECH.name,), settings.speech_base_url, settings.speech_model),
        Place("transcription", ears, settings.transcription_base_url, settings.transcription_model),
        Place("images", pictures, settings.images_base_url, settings.images_model),
    )


def abroad(settings: Settings, clouds: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Each endpoint of the local tier that is no such thing, and the destination that it is.

    Args:
        settings: what they name.
        clouds: the addresses of the destinations, by id.
    """
    known = {host_of(address): id_ for id_, address in clouds.items()}
    urls = (settings.local_base_url, *(place.base_url for place in places(settings)))
    named = dict.fromkeys(url for url in urls if url is not None)
    return tuple((url, known[host_of(url)]) for url in named if host_of(url) in known)
