"""Spark's "stop ensures correct shutdown" on a real generator, a real store and a real signal."""

from __future__ import annotations

import signal
from collections.abc import Callable

from aggregation import Form, forms
from generator_harness import batch_message, columns_of
from generator_process import SHARD, GeneratorProcess, Peer

from kcl_receiver.errors import EXIT_OK
from kcl_receiver.generator.stream import boot_millis
from kcl_receiver.ranges import After
from kcl_receiver.wire.messages import Admitted, Draining, Stored


@forms
def test_a_sigterm_stores_a_thousand_items_takes_no_more_and_ends_in_order(
    make_generator: Callable[..., GeneratorProcess], form: Form
) -> None:
    # No block is cut by time here: without the drain nothing would ever be stored.
    generator = make_generator(receiver_blockIntervalMillis="600000").up()
    peer = Peer(generator.socket)
    peer.greet()
    after: After = "TRIM_HORIZON"
    for number in range(1, 12):
        columns = columns_of(form.positions(*range(100 * number, 100 * number + 100)))
        last = columns.position(columns.count - 1)
        if number == 11:
            generator.signal(signal.SIGTERM)
            peer.expect(Draining)
        peer.send(batch_message(columns, number, after, last, at=boot_millis()), columns)
        if number < 11:
            assert peer.expect(Admitted).number == number
        after = last
    answers = [peer.receive(), peer.receive()]
    assert Draining() in answers, "the eleventh batch came too late"
    assert Stored(10) in answers
    peer.close()
    assert generator.ended() == EXIT_OK
    stored = form.positions(*range(100, 1100))
    assert generator.rows() == [(SHARD, one.sequence_number, one.sub_sequence_number) for one in stored]
