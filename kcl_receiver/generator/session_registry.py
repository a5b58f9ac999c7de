"""Who is connected, and who may speak for a shard.

Two rules: of the sessions of a shard only the youngest is current, and an older one is refused whenever it comes; and a
connection that was told to hang up is heard no more, and told nothing more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kcl_receiver.errors import Fenced, ProtocolError, ReceiverError
from kcl_receiver.generator.effects import Close, Effect, Send
from kcl_receiver.generator.session import Session, State
from kcl_receiver.generator.tracker import Tracker
from kcl_receiver.ranges import After, parse_after
from kcl_receiver.wire.messages import Hello, Refused

HELLO_SECONDS = 10.0
"""A connection that has not said Hello by then is closed."""
MAX_TEXT = 4096
"""Characters of an error that a processor is told; what is cut off is in the generator's log. Fits a frame."""

_ID = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
"""ShardId in the Kinesis API reference; sessions are named likewise. Both go into the ledger."""


@dataclass(slots=True)
class _Connection:
    """`closing` says that it was told to hang up."""

    pid: int
    since: float
    session: Session | None = None
    status_only: bool = False
    closing: bool = False

    @property
    def hello_due(self) -> float | None:
        """When it must have said Hello, None if it has or need not."""
        spoken = self.session is not None or self.status_only or self.closing
        return None if spoken else self.since + HELLO_SECONDS


class SessionRegistry:
    """Connections by the driver's number, sessions by id, and the current session of each shard.

    Attributes:
        sessions: All that are known, by id: the current ones, and closed ones with blocks on their way.
        current: The youngest session of each shard, by shard id; it stays after it has left.
    """

    def __init__(self, application: str) -> None:
        self._application = application
        self._connections: dict[int, _Connection] = {}
        self.sessions: dict[str, Session] = {}
        self.current: dict[str, Session] = {}

    # ------------------------------------------------------------------ connections

    def connected(self, connection: int, pid: int, now: float) -> None:
        """Take note of a connection."""
        self._connections[connection] = _Connection(pid, now)

    def disconnected(self, connection: int) -> None:
        """The connection is gone; its session stays."""
        gone = self._connections.pop(connection, None)
        if gone is not None and gone.session is not None:
            gone.session.lose_connection()

    def watched(self, connection: int) -> None:
        """The connection asks for the status: unless it has a session, it needs none."""
        link = self._connections[connection]
        link.status_only = link.session is None

    def session_on(self, connection: int) -> Session | None:
        """Return the session that a connection speaks for, None if it speaks for none."""
        link = self._connections.get(connection)
        return None if link is None else link.session

    def open_session_on(self, connection: int) -> Session:
        """Return the open session that a connection speaks for.

        Raises:
            ProtocolError: There is none.
        """
        session = self.session_on(connection)
        if session is None or session.state is not State.OPEN:
            raise ProtocolError("a message came before the session was open")
        return session

    def refuse(self, connection: int, error: ReceiverError) -> list[Effect]:
        """Say why, and hang up."""
        link = self._connections.get(connection)
        if link is None or link.closing:
            return []
        refused = Refused(type(error).__name__, clipped(error.message), clipped(error.hint))
        return [Send(connection, refused), *self.hang_up(connection)]

    def hang_up(self, connection: int) -> list[Effect]:
        """End a connection; its session stays."""
        link = self._connections[connection]
        if link.session is not None:
            link.session.lose_connection()
        link.session = None
        link.closing = True
        return [Close(connection)]

    def hang_up_silent(self, now: float) -> list[Effect]:
        """End the connections that have not said Hello in time."""
        return [
            effect
            for number, link in self._connections.items()
            if link.hello_due is not None and now >= link.hello_due
            for effect in self.hang_up(number)
        ]

    def hello_due(self) -> float | None:
        """When the next connection must have said Hello, None if none must."""
        due = [link.hello_due for link in self._connections.values()]
        return min((time for time in due if time is not None), default=None)

    @property
    def serving(self) -> bool:
        """Whether any session has its processor connected."""
        return any(link.session is not None for link in self._connections.values())

    @property
    def processors(self) -> bool:
        """Whether anyone is connected who may be a processor, or may become one."""
        return any(not link.status_only for link in self._connections.values())

    # ------------------------------------------------------------------ sessions

    def admit(self, connection: int, hello: Hello, now: float) -> Session:
        """Return the session that a Hello opens or resumes; `join` follows.

        Raises:
            ProtocolError: The Hello can't be true, or may not come now.
            Fenced: A younger session of the shard is known, or this one has left.
        """
        link = self._connections[connection]
        after = self._check(hello, link, now)
        current = self.current.get(hello.shard)
        if current is not None and (hello.rank, hello.session) < current.seniority:
            raise Fenced(
                f"{hello.shard}: a younger session of this shard is open (pid {current.hello.pid})",
                "this process held the lease before and lost it; it stops, and nothing is lost",
            )
        known = self.sessions.get(hello.session)
        if known is None:
            return Session(hello, after, None, Tracker(hello.next_number))
        if (known.shard, known.hello.rank) != (hello.shard, hello.rank):
            raise ProtocolError(f"{hello.shard}: session {hello.session} came before with another shard or rank")
        if known.state is State.CLOSED:
            raise Fenced(f"{hello.shard}: this session was closed before", "it lost its lease; nothing is lost")
        first, following = known.hello.next_number, known.tracker.next_number
        if not first <= hello.next_number <= following:
            raise ProtocolError(
                f"{hello.shard}: batch {hello.next_number} is announced, one from {first} to {following} was expected"
            )
        return known

    def _check(self, hello: Hello, link: _Connection, now: float) -> After:
        if link.session is not None or link.closing:
            raise ProtocolError(f"a second Hello on one connection, for {hello.shard}")
        if hello.application != self._application:
            raise ProtocolError(
                f"this generator serves application {self._application!r}, not {hello.application!r}",
                "give each application a socket of its own (receiver.socket)",
            )
        if not (_ID.fullmatch(hello.shard) and _ID.fullmatch(hello.session)):
            raise ProtocolError("the ids of a shard and a session are 1 to 128 letters, digits, or _.-")
        if hello.pid != link.pid:
            raise ProtocolError(f"{hello.shard}: the session claims pid {hello.pid}, its peer has pid {link.pid}")
        if hello.rank > now * 1e9:
            raise ProtocolError(f"{hello.shard}: the session's rank {hello.rank} lies in the future")
        if hello.next_number < 1:
            raise ProtocolError(f"{hello.shard}: batches are numbered from 1, not from {hello.next_number}")
        try:
            return parse_after(hello.after)
        except ValueError as error:
            raise ProtocolError(f"{hello.shard}: {error}") from error

    def join(self, connection: int, session: Session) -> tuple[list[Effect], Session | None]:
        """Give an admitted session its connection, and its shard.

        Returns:
            What to send, and the older session that it takes the shard from.
        """
        effects = [] if session.connection is None else self.hang_up(session.connection)
        session.connection = connection
        link = self._connections[connection]
        link.session = session
        link.status_only = False
        self.sessions[session.id] = session
        older = self.current.get(session.shard)
        self.current[session.shard] = session
        if older is None or older is session:
            return effects, None
        if older.connection is not None:
            fenced = Fenced(
                f"{older.shard}: a younger session of this shard has come (pid {session.hello.pid})",
                "this process lost its lease without being told; it stops, and nothing is lost",
            )
            effects += self.refuse(older.connection, fenced)
        return effects, older

    def forget_closed(self) -> None:
        """Drop closed sessions without blocks on their way, but for the one by which an older process is refused."""
        for session in list(self.sessions.values()):
            idle = session.state is State.CLOSED and not session.in_flight
            if idle and self.current.get(session.shard) is not session:
                del self.sessions[session.id]

    def to_look_up(self) -> list[Session]:
        """Return the waiting sessions that have their processor, once no block of an older one is on its way."""
        return [
            session
            for session in self.current.values()
            if session.state is State.WAITING and session.connection is not None and not self._older_in_flight(session)
        ]

    def _older_in_flight(self, session: Session) -> bool:
        return any(
            other.in_flight and other.shard == session.shard and other is not session
            for other in self.sessions.values()
        )


def clipped(text: str) -> str:
    """Return text that a frame can carry: an error may quote what a peer sent, or a path that is not UTF-8."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()
