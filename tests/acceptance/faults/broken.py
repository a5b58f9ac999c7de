"""What ends a campaign, and what only ends a round."""

from __future__ import annotations


class Broken(Exception):
    """A promise was broken, or a recovery did not come; the message says which and where."""


class NotNow(Exception):
    """The world changed between the choice of a fault and its strike; the round is played again."""
