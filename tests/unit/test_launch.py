from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from kcl_receiver.daemon import launch

LAUNCH = [sys.executable, "-I", "-S", str(Path(launch.__file__))]


def test_it_becomes_the_program_with_its_arguments_and_exit_code() -> None:
    program = [sys.executable, "-c", "import os, sys; print(os.getpid(), *sys.argv[1:]); sys.exit(7)", "a b", "*"]
    process = subprocess.Popen([*LAUNCH, str(os.getpid()), "9", *program], stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate()
    assert out == f"{process.pid} a b *\n"
    assert process.returncode == 7


def test_it_does_not_start_the_program_for_a_parent_that_is_gone() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = subprocess.run([*LAUNCH, str(gone.pid), "9", "echo", "started"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_the_program_dies_with_its_parent() -> None:
    code = (
        "import subprocess, sys, os, signal\n"
        f"child = subprocess.Popen([*{LAUNCH!r}, str(os.getpid()), '9', sys.executable, '-c', "
        "'print(flush=True); import signal; signal.pause()'], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); signal.pause()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    descriptor = os.pidfd_open(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    import select

    assert select.select([descriptor], [], [], 30)[0]
    os.close(descriptor)
    parent.stdout.close()


def test_a_program_that_is_not_there_is_told_on_stderr() -> None:
    done = subprocess.run([*LAUNCH, str(os.getpid()), "9", "/none"], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"No such file" in done.stderr
