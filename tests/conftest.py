"""Holds for all tests: hypothesis judges what is true, and not how long a busy machine takes for it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("without-deadline", settings(), deadline=None)
settings.load_profile("without-deadline")
