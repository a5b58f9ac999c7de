"""The targets by name, with what a million inputs are divided by."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

SHARES = {"frames": 42, "link": 24, "daemon": 14, "status": 17, "generator": 2, "files": 1}
"""Percent of all inputs; by their cost, and by what there is to be found."""

_INSTALLED = {"frames": "target_files", "generator": "stage"}


def load(name: str) -> tuple[ModuleType, ModuleType]:
    """Return a target, and the module whose `installed` prepares the process for it."""
    target = import_module(f"fuzz.target_{name}")
    place = _INSTALLED.get(name)
    return target, target if place is None else import_module(f"fuzz.{place}")
