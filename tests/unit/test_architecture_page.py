"""The pictures of docs/architecture.md show the states and steps of the code; the glossary is in order.

The state machines are driven over every arrow, and each change of state on the way is noted.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from generator_harness import Harness
from processor_harness import Processor

from kcl_receiver.errors import LeaseRefused, StreamGone
from kcl_receiver.generator.session import Session, State
from kcl_receiver.processor.core import Link, ProcessorCore

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")
GLOSSARY = (DOCS / "glossary.md").read_text(encoding="utf-8")

Arrow = tuple[str, str]


def picture(title: str, number: int) -> str:
    """Return one of the pictures below a heading."""
    below = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```mermaid\n(.*?)```", below, re.DOTALL)[number]


def arrows(drawn: str) -> list[Arrow]:
    return re.findall(r"^ *([\w\[\]*]+) --> ([\w\[\]*]+)(?::.*)?$", drawn, re.MULTILINE)


def between_states(drawn: str) -> set[Arrow]:
    return {arrow for arrow in arrows(drawn) if "[*]" not in arrow}


SESSION = picture("A session", 0)
LINK = picture("A session", 1)


@pytest.mark.parametrize(("drawn", "states", "first"), [(SESSION, State, "WAITING"), (LINK, Link, "AWAY")])
def test_the_states_of_the_picture_are_those_of_the_code(drawn: str, states: type[Enum], first: str) -> None:
    every = arrows(drawn)
    assert {state for arrow in every for state in arrow} - {"[*]"} == {state.name for state in states}
    assert ("[*]", first) in every
    assert len(set(every)) == len(every)


def note_changes(monkeypatch: pytest.MonkeyPatch, kind: type[Any], attribute: str) -> set[Arrow]:
    """Return a set into which every change of an attribute will come, as names of states."""
    seen: set[Arrow] = set()
    plain = kind.__setattr__

    def noting(it: Any, name: str, value: Any) -> None:  # noqa: ANN401 - any attribute
        before = getattr(it, name, None) if name == attribute else None
        if before is not None and before is not value:
            seen.add((before.name, value.name))
        plain(it, name, value)

    monkeypatch.setattr(kind, "__setattr__", noting)
    return seen


def take_sessions_everywhere() -> None:
    """Take sessions to every state, and from each of them to their end."""
    Harness().open().leave()
    for state in ("waiting", "looking", "recording", "on hold"):
        h = Harness()
        h.open().batch(10)
        h.cut()
        p = h.processor(rank=2)
        p.hello()  # waits, because a block of the older session is in flight
        if state != "waiting":
            h.store()
        if state == "recording":
            h.look_up()
        if state == "on hold":
            h.look_up(LeaseRefused("why", "what next"))
            p.reconnect(1)
            h.look_up(LeaseRefused("why", "what next"))
        p.leave()
    h = Harness()
    h.processor().hello()
    h.look_up(StreamGone("why", "what next"))


def take_links_everywhere() -> None:
    """Take a processor's link to every state, and from each of them to the loss of its connection."""
    for state in ("greeting", "open", "draining", "on hold"):
        p = Processor()
        p.initialize()
        p.connect()
        if state in ("open", "draining"):
            p.welcome()
        if state == "draining":
            p.drain()
        if state == "on hold":
            p.hold()
        p.disconnect()


def test_the_picture_of_a_session_shows_the_steps_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = note_changes(monkeypatch, Session, "state")
    take_sessions_everywhere()
    assert seen == between_states(SESSION)


def test_the_picture_of_a_link_shows_the_steps_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = note_changes(monkeypatch, ProcessorCore, "_link")
    take_links_everywhere()
    assert seen == between_states(LINK)


def test_the_glossary_is_in_alphabetical_order_and_each_term_has_one_line_and_a_home() -> None:
    lines = [line for line in GLOSSARY.split("\n") if line.startswith("| ")][1:]
    found = [re.fullmatch(r"\| ([^|]+) \| ([^|]+\.) \| (?:\[[^\]]+\]\([^)]+\)(?:, )?)+ \|", line) for line in lines]
    assert None not in found, [line for line, one in zip(lines, found, strict=True) if one is None]
    terms = [(one[1].casefold(), re.match(r"\([^)]*\)|", one[2])) for one in found if one is not None]
    assert [term for term, _ in terms] == sorted(term for term, _ in terms)
    # A word may have two meanings only if each line begins with what it is said of: "(of a clock) …".
    meanings = [(term, said[0] if said else "") for term, said in terms]
    assert len(set(meanings)) == len(meanings)
    for term in {term for term, said in meanings if not said}:
        assert [one for one, _ in meanings].count(term) == 1, term
