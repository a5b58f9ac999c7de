"""Bugs in what compacts, expires and repairs."""

from __future__ import annotations

from mutants import Mutant

MUTANTS = [
    Mutant(
        "maintenance deletes on the word of a ledger that is not durable",
        "kcl_receiver/store/maintenance.py",
        "        settle_day(store, day)\n        store.delete_blocks(blocks)",
        "        store.delete_blocks(blocks)",
        (
            "tests/unit/test_maintenance_faults.py"
            "::test_what_a_killed_run_left_may_not_be_durable_and_nothing_is_deleted_on_its_word",
        ),
    ),
    Mutant(
        "an expired block counts as one that holds what others lost",
        "kcl_receiver/maintenance/leftovers.py",
        "block not in changes.replaced and block not in changes.expired",
        "block not in changes.replaced",
        ("tests/unit/test_compact.py::test_what_only_an_expired_block_holds_is_not_deleted_with_it",),
    ),
    Mutant(
        "a block is looked for in no ledger but those of its day and the next",
        "kcl_receiver/maintenance/days.py",
        "        if left:\n            yield from self.entries_of(left, changes)",
        "        return",
        ("tests/unit/test_expire.py::test_a_block_goes_that_the_second_writer_after_its_day_took_in",),
    ),
]
