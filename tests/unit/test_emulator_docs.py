from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from kcl_receiver.emulator.kinesis.settings import Settings

TEXT = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")


def test_every_setting_is_documented_and_none_besides() -> None:
    documented = set(re.findall(r'\{"(\w+)": [\w.]+\}', TEXT)) - {"seconds"}
    assert sorted(documented) == sorted(field.name for field in fields(Settings))


def test_every_control_is_documented() -> None:
    documented = set(re.findall(r"`(GET|POST) /_emulator/(\w+)`", TEXT))
    source = (Path(__file__).parents[2] / "kcl_receiver" / "emulator" / "application.py").read_text(encoding="utf-8")
    assert documented == set(re.findall(r'action == \("(GET|POST)", "(\w+)"\)', source))
