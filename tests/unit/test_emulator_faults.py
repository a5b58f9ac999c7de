from __future__ import annotations

import pytest

from kcl_receiver.emulator.faults import Faults


def test_a_failure_is_due_as_often_as_it_was_ordered() -> None:
    faults = Faults()
    faults.fail("dynamodb", "UpdateItem", "ProvisionedThroughputExceededException", status=400, times=2)
    assert faults.take("dynamodb", "GetItem") is None
    assert faults.take("s3", "UpdateItem") is None
    for _ in range(2):
        failure = faults.take("dynamodb", "UpdateItem")
        assert failure is not None
        assert (failure.error, failure.status) == ("ProvisionedThroughputExceededException", 400)
    assert faults.take("dynamodb", "UpdateItem") is None


def test_stars_stand_for_every_service_and_operation() -> None:
    faults = Faults()
    faults.fail("*", "*", times=2)
    assert faults.take("s3", "PUT") is not None
    assert faults.take("kinesis", "GetRecords") is not None
    faults.set_down("*")
    assert faults.is_down("s3")
    faults.set_down("kinesis", "s3")
    assert faults.is_down("kinesis")
    assert not faults.is_down("dynamodb")


def test_what_is_not_named_stays_as_it_is() -> None:
    faults = Faults()
    faults.change({"down": ["s3", "kinesis"], "errors": [{"service": "dynamodb", "operation": "*", "times": 3}]})
    faults.change({"hang": True})
    assert faults.is_down("s3")
    assert faults.hangs("dynamodb")
    found = faults.to_json()
    assert (found["down"], found["hang"], found["errors"][0]["times"]) == (["kinesis", "s3"], ["*"], 3)
    faults.change({"down": False, "hang": "s3"})
    assert not faults.is_down("s3")
    assert not faults.hangs("dynamodb")
    faults.clear()
    assert faults.to_json() == {"down": [], "hang": [], "errors": []}


@pytest.mark.parametrize(
    "wrong",
    [
        {"up": True},
        {"down": 1},
        {"down": [1]},
        {"errors": ["x"]},
        {"errors": [{"service": "s3"}]},
        {"errors": [{"service": "s3", "operation": "PUT", "color": "red"}]},
    ],
)
def test_a_fault_that_does_not_exist_is_refused_and_changes_nothing(wrong: dict[str, object]) -> None:
    faults = Faults()
    faults.set_down("s3")
    with pytest.raises(ValueError, match=r"fault|services|errors"):
        faults.change({"hang": True, **wrong})
    assert faults.to_json() == {"down": ["s3"], "hang": [], "errors": []}


def test_listeners_are_told_of_every_change() -> None:
    faults = Faults()
    changes: list[int] = []
    faults.on_change = lambda: changes.append(1)
    faults.set_down("s3")
    faults.set_hang("s3")
    faults.change({"down": False})
    faults.clear()
    assert len(changes) == 4
