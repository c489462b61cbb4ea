"""Takes the text out of files that a request carries: plain text, tables, Office files, PDF.

A file counts as read only when every part of it was: whatever a reader does not know leaves the
file unscannable, and what could be read of it is inspected all the same.
"""

from __future__ import annotations

from proxy.inspection.files.extract import Extract, Ocr, Unreadable
from proxy.inspection.files.read import read_file

__all__ = ["Extract", "Ocr", "Unreadable", "read_file"]
