"""Becomes another program that dies with the process that asked for it.

Run as a script: `launch.py PARENT_PID SIGNAL PROGRAM ARGUMENTS…`. The kernel sends SIGNAL when the parent ends in any
way, kill -9 included (PR_SET_PDEATHSIG, which execve keeps; see prctl(2)). A program of its own, and not a function
that runs between fork and exec: that is not safe in a process with threads. Imports nothing of this package.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program."""
    parent, number, program = int(arguments[0]), int(arguments[1]), arguments[2]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        # It ended before the line above: the signal would never come.
        os._exit(1)
    os.execvp(program, arguments[2:])  # noqa: S606 - no shell, on purpose


if __name__ == "__main__":
    main(sys.argv[1:])
