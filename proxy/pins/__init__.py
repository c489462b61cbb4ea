"""Derived data: what a pinned exchange said stays known, and stays home."""
