"""The plan of a campaign: decided by its seed, and fair to every kind."""

from __future__ import annotations

from collections import Counter

import pytest

from faults.kinds import KINDS, TOGETHER
from faults.plan import LEAST, RESHARDS, ROUNDS_OF_A_THEATRE, make_plan


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_occurs_often_enough_in_the_long_form(seed: int) -> None:
    rounds = [one for scene in make_plan(seed, 100, list(KINDS)) for one in scene.rounds]
    assert [one.number for one in rounds] == list(range(1, 101))
    counts = Counter(one.kind for one in rounds)
    assert counts.keys() == KINDS.keys()
    assert min(counts.values()) >= LEAST


def test_the_short_form_has_every_kind_once() -> None:
    scenes = make_plan(3, len(KINDS), list(KINDS))
    assert sorted(one.kind for scene in scenes for one in scene.rounds) == sorted(KINDS)


def test_the_same_seed_is_the_same_plan_and_another_one_is_another() -> None:
    assert make_plan(1, 100, list(KINDS)) == make_plan(1, 100, list(KINDS))
    assert make_plan(1, 100, list(KINDS)) != make_plan(2, 100, list(KINDS))


@pytest.mark.parametrize("seed", range(20))
def test_kinds_that_need_two_hosts_are_played_by_two_and_theatres_stay_short(seed: int) -> None:
    scenes = make_plan(seed, 100, list(KINDS))
    for scene in scenes:
        assert 0 < len(scene.rounds) <= ROUNDS_OF_A_THEATRE
        assert scene.hosts == 2 or not any(one.kind in TOGETHER for one in scene.rounds)
    # Two hosts are struck by the other kinds as well.
    assert any(one.kind not in TOGETHER for scene in scenes if scene.hosts == 2 for one in scene.rounds)


@pytest.mark.parametrize("seed", range(20))
def test_splits_and_merges_take_turns_so_that_the_number_of_shards_stays_what_it_is(seed: int) -> None:
    for scene in make_plan(seed, 100, list(KINDS)):
        more = 0
        for one in scene.rounds:
            more += {"split": 1, "merge": -1}.get(one.kind, 0)
            assert -1 <= more <= 1, [one.kind for one in scene.rounds if one.kind in RESHARDS]


def test_one_kind_alone_is_a_campaign() -> None:
    (scene,) = make_plan(1, 3, ["zombie"])
    assert (scene.hosts, [one.kind for one in scene.rounds]) == (2, ["zombie"] * 3)
