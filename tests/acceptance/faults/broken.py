"""The one thing that ends a campaign: something that must hold did not."""

from __future__ import annotations


class Broken(Exception):
    """A promise was broken, or a recovery did not come; the message says which and where."""
