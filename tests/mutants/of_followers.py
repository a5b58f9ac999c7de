"""Bugs in what the store knows of its followers, and in what `expire` leaves for them."""

from __future__ import annotations

from mutants import Mutant

FOLLOWERS = "kcl_receiver/store/ledger/followers.py"
PLACE = "kcl_receiver/store/ledger/place.py"
TRANSACTION = "kcl_receiver/store/ledger/transaction.py"
EXPIRE = "kcl_receiver/maintenance/expire.py"
TESTS = "tests/unit/test_followers.py"

MUTANTS = [
    Mutant(
        "expire waits for no follower",
        EXPIRE,
        "            if names and out[block].newest < self._before_ms and block not in changes.replaced:",
        "            if False:",
        (f"{TESTS}::test_what_a_follower_has_not_confirmed_stays",),
    ),
    Mutant(
        "what maintenance made is passed as soon as what it stands in for is",
        "kcl_receiver/store/ledger/reading.py",
        "by.maintenance >= self.maintenance if self.maintenance else",
        "True if self.maintenance else",
        (f"{TESTS}::test_what_stands_in_for_blocks_that_a_follower_has_seen_stays_until_it_has_seen_that",),
    ),
    Mutant(
        "a removal that was planned before a follower came is recorded all the same",
        TRANSACTION,
        "            or (self._role == EXPIRE and since.followed)\n",
        "",
        (
            f"{TESTS}::test_a_removal_that_was_planned_without_a_follower_is_planned_again",
            f"{TESTS}::test_a_follower_that_comes_while_blocks_are_removed_is_waited_for_or_finds_them_removed",
        ),
    ),
    Mutant(
        "a follower is not announced",
        FOLLOWERS,
        "        announce(store, name, now)\n",
        "",
        (f"{TESTS}::test_a_removal_that_was_planned_without_a_follower_is_planned_again",),
    ),
    Mutant(
        "a follower is announced before it is written down",
        FOLLOWERS,
        "        _write(store, one)\n        announce(store, name, now)\n",
        "        announce(store, name, now)\n        _write(store, one)\n",
        (f"{TESTS}::test_a_place_is_written_before_the_log_says_so",),
    ),
    Mutant(
        "one that was killed before it was announced reads without that",
        FOLLOWERS,
        "if known is None or not known.announced or not",
        "if known is None or not",
        (f"{TESTS}::test_one_that_was_killed_before_it_was_announced_is_announced_at_its_next_start",),
    ),
    Mutant(
        "a follower that begins before what it confirmed goes on unknown",
        FOLLOWERS,
        " or not _is_covered(confirmed, application, begun):",
        ":",
        (f"{TESTS}::test_a_follower_goes_on_where_it_confirmed_unless_it_gives_a_token",),
    ),
    Mutant(
        "a follower that was removed comes back unseen",
        FOLLOWERS,
        "    if known is None or known.number != number:",
        "    known = known or Follower(name, '', '', 0, 0, True, number)\n    if False:",
        (
            f"{TESTS}::test_one_that_is_removed_holds_nothing_and_learns_of_it",
            f"{TESTS}::test_what_was_confirmed_and_arrives_late_counts_for_nothing_once_the_follower_has_begun_anew",
        ),
    ),
    Mutant(
        "a follower that begins anew confirms under its old number",
        FOLLOWERS,
        "number=_newest(store, name) + 1)",
        "number=max(1, _newest(store, name)))",
        (f"{TESTS}::test_what_was_confirmed_and_arrives_late_counts_for_nothing_once_the_follower_has_begun_anew",),
    ),
    Mutant(
        "a removal has no number",
        FOLLOWERS,
        "    store.put_follower(name, number + 1, _REMOVED)\n",
        "",
        (f"{TESTS}::test_what_was_confirmed_and_arrives_late_does_not_bring_back_who_was_removed",),
    ),
    Mutant(
        "lines of a ledger that is being read count as read",
        PLACE,
        "return writer <= self.place.last if lines is None else number <= lines",
        "return writer <= self.place.last",
        (f"{TESTS}::test_only_what_was_confirmed_goes",),
    ),
    Mutant(
        "one that reads a ledger covers one that has read all of it",
        PLACE,
        "            and all(writer > there.last or writer in there.lines for writer in self.place.lines)\n",
        "",
        (f"{TESTS}::test_what_one_has_taken_in_covers_what_another_has",),
    ),
]
