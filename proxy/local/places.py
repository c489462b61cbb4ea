"""Which endpoint of the local tier answers which routes: one of their own, or the one for words.

All of them are on our own premises, and each is asked with the one key for the local tier.
"""

from __future__ import annotations

from dataclasses import dataclass

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
