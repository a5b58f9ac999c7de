"""Where the generator's socket is: the one thing a processor must know before anybody can tell it anything.

Imports next to nothing, because there is a processor per shard and each would pay for more. The rule depends on the
properties file and the user's id alone, never on the environment: the supervisor, the daemon's children and a `status`
typed in another shell must all come to the same path, whatever their variables are.
"""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

SOCKET_NAME = "generator.sock"
GENERATOR_LOCK = "generator.lock"
"""Beside the socket: whoever holds its flock is the generator."""
GENERATOR_WRITERS = "generator.writers"
"""Beside the socket: the writers of this host whose ledgers the next generator closes, where others write, too."""
SUPERVISED = "KCL_RECEIVER_SUPERVISED"
"""Environment variable that `kcl-receiver run` sets for what it starts: generator and directory are looked after. Its
value is the path of the generator's log, which processors name."""
MAX_SOCKET_PATH = 107
"""Bytes that fit in Linux's sun_path (108) before its closing zero; see unix(7)."""

_BLANK = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_LONGEST_PLAIN = 64


def runtime_root() -> str:
    """Return this user's directory for sockets and locks: `/tmp/kcl-receiver-<uid>`.

    XDG_RUNTIME_DIR is not used: it is there in a login shell and not in a system service, so that the two would not
    find each other, and it is removed at the user's last logout, under a receiver that goes on running.
    """
    return f"/tmp/kcl-receiver-{os.getuid()}"  # noqa: S108 - fixed on purpose; its owner and mode are checked


def default_socket(application: str) -> str:
    """Return the socket's path for an application whose properties file names none."""
    return os.path.join(runtime_root(), _directory_name(application), SOCKET_NAME)


def resolve_socket(properties_path: str, socket: str) -> str:
    """Return the path that `receiver.socket` means: relative to the directory of its properties file."""
    directory = os.path.dirname(os.path.abspath(properties_path))
    return os.path.normpath(os.path.join(directory, socket))


def private_directory(path: str) -> None:
    """Make a directory that only this user can enter, with its parents; check it if it is there already.

    /tmp belongs to everybody: without this check another user could make the directory first and own the socket.

    Raises:
        OSError: It cannot be made.
        PermissionError: It belongs to another user, or others may write to it.
    """
    parent = os.path.dirname(path)
    if path.startswith(runtime_root() + "/"):
        private_directory(parent)
    else:
        os.makedirs(parent, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    about = os.lstat(path)
    if about.st_uid != os.getuid() or about.st_mode & 0o170022 != 0o040000:
        raise PermissionError(f"{path} is not a directory that belongs to this user alone")


def scan(content: bytes, wanted: Container[str]) -> dict[str, str]:
    r"""Return the wanted keys of a properties file with their values, as java.util.Properties would load them.

    Raises:
        ValueError: A `\u` escape is not followed by four hexadecimal digits.
    """
    found: dict[str, str] = {}
    for line in _logical_lines(content.decode("latin-1")):
        key, value = _split(line)
        key = _unescape(key)
        value = _unescape(value)
        if key in wanted:
            found[key] = value
    return found


def _logical_lines(text: str) -> list[str]:
    """Join continued lines and leave out comments and blank lines, in the way of java.util.Properties.LineReader."""
    lines: list[str] = []
    joined = ""
    for natural in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        part = natural.lstrip(_BLANK)
        if not joined and (not part or part[0] in "#!"):
            continue
        if (len(part) - len(part.rstrip("\\"))) % 2:
            joined += part[:-1]
            continue
        if joined or part:
            lines.append(joined + part)
        joined = ""
    if joined:
        lines.append(joined)
    return lines


def _split(line: str) -> tuple[str, str]:
    """Divide a logical line at the first `=`, `:` or blank that is not escaped."""
    at = 0
    while at < len(line) and line[at] not in "=: \t\f":
        at += 2 if line[at] == "\\" else 1
    key, rest = line[:at], line[at:].lstrip(_BLANK)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANK)
    return key, rest


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character != "\\" or at == len(text):
            out.append("" if character == "\\" else character)
            continue
        escape = text[at]
        at += 1
        if escape == "u":
            digits = text[at : at + 4]
            if len(digits) < 4 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
                raise ValueError(f"\\u{digits} is not a \\uXXXX escape")
            out.append(chr(int(digits, 16)))
            at += 4
        else:
            out.append(_ESCAPES.get(escape, escape))
    # Java keeps text as UTF-16: two escapes may be the halves of one character.
    return "".join(out).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _directory_name(application: str) -> str:
    """Return a name that is safe as one path component, and different for different applications."""
    if len(application) <= _LONGEST_PLAIN and _PLAIN.issuperset(application) and application.strip("."):
        return application
    import hashlib  # noqa: PLC0415 - costs 2 ms, and hardly any application has such a name

    digest = hashlib.sha256(application.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return "".join(filter(_PLAIN.__contains__, application))[:32].strip(".") + "-" + digest
