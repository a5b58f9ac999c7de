"""Bugs in what reads lost records again."""

from __future__ import annotations

from mutants import Mutant

MUTANTS = [
    Mutant(
        "what a file loses while the rest is read from the stream is not told",
        "kcl_receiver/recovery/restore.py",
        "            if content_of(one) in left:\n",
        "            if False:\n",
        (
            "tests/unit/test_restore.py"
            "::test_what_a_file_loses_while_the_rest_is_read_from_the_stream_is_told_and_the_file_stays",
        ),
    ),
]
