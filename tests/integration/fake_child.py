"""Plays the generator or the java daemon of a supervisor: reports what happens to it, and behaves as it is told.

Run as `fake_child.py ROLE REPORT_SOCKET GENERATOR_SOCKET BEHAVIOUR…`. Behaviours: `deaf` ignores SIGTERM, `crash` ends
at once with code 1, `exit=N` ends at once with code N, `crash-once` does so at its first start only, `parent` has a
child that ignores SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path


def main() -> None:
    role, report, own_socket, *behaviours = sys.argv[1:]
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.connect(report)

    def say(event: str, **more: object) -> None:
        channel.send(json.dumps({"role": role, "event": event, "pid": os.getpid(), **more}).encode())

    # Waited for below, and not handled: a handler that runs just before pause() would leave it waiting for ever.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    listener = None
    if role == "generator":
        Path(own_socket).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(own_socket)
        listener.listen()
    links = list(Path("/proc/self/fd").iterdir())
    child = None
    if "parent" in behaviours:
        code = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
    os.write(1, f"{role} says hello\n".encode())
    os.write(2, f"{role} fails\n".encode())
    say(
        "started",
        session=os.getsid(0),
        open=[str(link.resolve()) for link in links if link.exists()],
        child=child.pid if child else None,
        path=os.environ["PATH"],
    )
    mark = Path(report + ".crashed")
    if "crash-once" in behaviours and not mark.exists():
        mark.touch()
        sys.exit(1)
    for behaviour in behaviours:
        if behaviour.startswith("exit="):
            sys.exit(int(behaviour[5:]))
    while True:
        signal.sigwait({signal.SIGTERM})
        say("SIGTERM")
        if "deaf" not in behaviours:
            sys.exit(143 if role == "daemon" else 0)


if __name__ == "__main__":
    main()
