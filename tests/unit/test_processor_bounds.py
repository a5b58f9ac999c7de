"""What a processor keeps in memory when nothing is stored."""

from __future__ import annotations

from aggregation import Form, forms
from processor_harness import CHECKPOINT_INTERVAL, WINDOW, Processor, delivered, done, numbers, started

DATA_BYTES = 3000


def until_it_waits(processor: Processor, form: Form, number: int) -> int:
    """Deliver page after page until one has to wait; return the bytes of one."""
    for page in range(number, number + 20):
        before = processor.core.kept_bytes
        if not done(processor.deliver(*form.records(page), data_bytes=DATA_BYTES)):
            return processor.core.kept_bytes - before
    raise AssertionError(f"{processor.core.kept_bytes} bytes are kept, and KCL may go on")


@forms
def test_with_a_full_window_one_more_batch_and_one_delivery_are_kept(form: Form) -> None:
    processor = started()
    delivered(processor, *form.records(1), data_bytes=DATA_BYTES)
    window = processor.core.kept_bytes
    size = until_it_waits(processor, form, 2)
    assert processor.core.kept_bytes == window + size + size


@forms
def test_under_a_draining_generator_a_window_a_batch_and_two_deliveries_are_kept_at_most(form: Form) -> None:
    processor = started()
    delivered(processor, *form.records(1), data_bytes=DATA_BYTES)
    processor.drain()
    size = until_it_waits(processor, form, 2)
    assert WINDOW + 2 * size < processor.core.kept_bytes <= WINDOW + size + 2 * size


@forms
def test_a_full_window_and_the_batch_left_behind_leave_a_draining_generator_one_delivery(form: Form) -> None:
    processor = started()
    page = 0
    while processor.core.kept_bytes + DATA_BYTES * form.subs <= WINDOW:
        page += 1
        delivered(processor, *form.records(page), data_bytes=DATA_BYTES)
    processor.deliver(*form.records(page + 1), data_bytes=DATA_BYTES)
    processor.drain()
    kept = processor.core.kept_bytes
    size = until_it_waits(processor, form, page + 2)
    assert processor.core.kept_bytes == kept + 2 * size


@forms
def test_without_a_generator_no_second_delivery_is_taken(form: Form) -> None:
    processor = started()
    delivered(processor, *form.records(1), data_bytes=DATA_BYTES)
    kept = processor.core.kept_bytes
    processor.disconnect()
    size = until_it_waits(processor, form, 2)
    assert processor.core.kept_bytes == kept + size


@forms
def test_one_batch_is_on_its_way_at_a_time(form: Form) -> None:
    # The generator has room for one of each session that is not admitted; see its formula in docs/operations.md.
    processor = started(batch_bytes=1)
    delivered(processor, *form.records(1))
    admitted = form.subs
    effects = processor.deliver(*form.records(2, 3))
    effects += [*processor.store(admitted), *processor.tick(), *processor.wait(CHECKPOINT_INTERVAL)]
    assert numbers(effects) == [admitted + 1]
    assert numbers(processor.admit(admitted + 1)) == [admitted + 2]
