from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from kcl_receiver.emulator.kinesis.api import FIELDS, OPERATIONS
from kcl_receiver.emulator.kinesis.settings import Settings

TEXT = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")


def test_every_setting_is_documented_and_none_besides() -> None:
    documented = set(re.findall(r'\{"(\w+)": [\w.]+\}', TEXT)) - {"seconds"}
    assert sorted(documented) == sorted(field.name for field in fields(Settings))


def test_every_control_is_documented() -> None:
    documented = set(re.findall(r"`(GET|POST) /_emulator/(\w+)`", TEXT))
    source = (Path(__file__).parents[2] / "kcl_receiver" / "emulator" / "application.py").read_text(encoding="utf-8")
    assert documented == set(re.findall(r'action == \("(GET|POST)", "(\w+)"\)', source))


def test_every_operation_is_documented_and_none_that_is_missing_exists() -> None:
    there, missing = (TEXT.split(title)[1].split("\n## ")[0] for title in ("## Kinesis: what", "## What is not there"))
    listed = there.split("The operations: ")[1]
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(OPERATIONS)
    named = set(re.findall(r"`([A-Z]\w+)`", missing.split("Other than in the service")[0]))
    assert len(named) > 20
    allowed = {"AddTagsToStream", "POLLING", "InvalidArgumentException"}
    assert not (named - allowed) & (OPERATIONS.keys() | FIELDS)
