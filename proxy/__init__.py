"""Ringfence: a privacy-first, OpenAI-compatible proxy. No work happens at import time."""

__version__ = "0.1.0"
