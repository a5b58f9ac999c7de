"""Bugs in the embedded AWS, which would let a fault of the receiver pass for a habit of the service."""

from __future__ import annotations

from mutants import Mutant

HOME = "kcl_receiver/emulator/"
REQUESTS = "tests/unit/test_emulator_requests.py::"

MUTANTS = [
    Mutant(
        "the emulator's Date is that of the machine",
        HOME + "application.py",
        "format_date_time(self._kinesis.now() / 1000)",
        'format_date_time(__import__("time").time())',
        ("tests/integration/test_emulator_server.py::test_the_date_of_every_answer_is_that_of_the_emulators_clock",),
    ),
    Mutant(
        "keys that are invented are counted without a bound",
        HOME + "signers.py",
        "if entry not in self._counts and len(self._counts) >= MAX_COUNTS:",
        "if False:",
        ("tests/unit/test_emulator_signers.py::test_invented_keys_take_no_more_than_a_bounded_memory",),
    ),
    Mutant(
        "what only begins as a pattern asks for is taken",
        HOME + "kinesis/shapes.py",
        "pattern.fullmatch(raw) is None",
        "pattern.match(raw) is None",
        (REQUESTS + "test_what_breaks_a_rule_is_named_as_the_service_names_it",),
    ),
    Mutant(
        "a body that is nested too deeply is a failure of the emulator",
        HOME + "kinesis/api.py",
        "UnicodeDecodeError, RecursionError) as error",
        "UnicodeDecodeError) as error",
        (REQUESTS + "test_a_body_of_the_wrong_form_is_a_serialization_error",),
    ),
    Mutant(
        "on-demand streams can be resharded",
        HOME + "kinesis/resharding.py",
        'if stream.mode == "ON_DEMAND":',
        'if stream.mode == "NONE":',
        (
            "tests/unit/test_emulator_resharding.py::"
            "test_the_shards_of_an_on_demand_stream_are_not_for_callers_to_change",
        ),
    ),
]
