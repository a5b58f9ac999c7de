from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.emulator.kinesis.sequence import LAST_PLACE, Parts, compose, decompose

SECONDS = st.integers(1_600_000_000, 2_500_000_000)
PARTS = st.builds(
    Parts,
    epoch=SECONDS,
    shard=st.integers(0, 2**32 - 1),
    place=st.integers(0, LAST_PLACE),
    second=SECONDS,
    noise=st.integers(0, 255),
)


@given(PARTS)
def test_a_sequence_number_has_56_digits_and_gives_its_parts_back(parts: Parts) -> None:
    number = compose(parts)
    assert len(str(number)) == 56
    assert decompose(number) == parts


@given(PARTS, st.integers(1, 2**20), SECONDS, st.integers(0, 255))
def test_within_a_shard_a_later_place_is_a_higher_number(parts: Parts, step: int, second: int, noise: int) -> None:
    place = min(parts.place, LAST_PLACE - step)
    low = compose(parts._replace(place=place))
    assert low < compose(parts._replace(place=place + step, second=second, noise=noise))


@given(PARTS, PARTS)
def test_every_number_of_a_younger_shard_is_above_every_number_of_an_older_one(one: Parts, other: Parts) -> None:
    if one.epoch < other.epoch:
        assert compose(one) < compose(other)


@given(st.integers(0, 10**56))
def test_numbers_that_the_model_does_not_make_are_found_out(number: int) -> None:
    parts = decompose(number)
    assert parts is None or compose(parts) == number
