"""Decides which shard is read next, and how many requests are under way.

Requests are taken in the order in which they come, and answered in another one. Whoever puts blocks together from the
answers holds their parts until the last one is there; so a request is taken only while all from the oldest unanswered
one on are together within a window of bytes. That bounds what lies here and there alike.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from kcl_receiver.kinesis.rebuild import Request, Reread
from kcl_receiver.kinesis.shard_reread import Lane

RECORD_COST = 300
"""Bytes that a user record takes beside key and data while its range is collected, and its columns made (estimate)."""
REQUEST_COST = 4096
"""The same for a request."""


def cost(request: Request) -> int:
    """Return the bytes of memory to reckon with for a request: its data twice, once as read and once as columns."""
    return 2 * request.range.size + RECORD_COST * request.range.count + REQUEST_COST


@dataclass(eq=False)
class Ticket:
    """A request that was taken.

    Attributes:
        number: Its place in the order of requests.
        request: The request.
        cost: See `cost`.
        is_read: Its answer is there.
        is_answered: Its answer was handed over.
    """

    number: int
    request: Request
    cost: int
    is_read: bool = False
    is_answered: bool = False


class Plan:
    """All shards of one reading; all times are the driver's seconds.

    Args:
        window: Bytes; one request is always let in.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._used = 0
        self._taken = 0
        self._open: deque[Ticket] = deque()
        self._tickets: dict[int, Ticket] = {}
        self._work: dict[str, Work] = {}

    @property
    def has_room(self) -> bool:
        """Whether another request may be taken."""
        return self._used < self._window

    @property
    def is_empty(self) -> bool:
        """Whether every request is answered."""
        return not self._tickets

    def add(self, request: Request) -> None:
        """Take a request."""
        own = replace(request)  # an object of its own, should the same one come twice
        ticket = Ticket(self._taken, own, cost(own))
        self._taken += 1
        self._used += ticket.cost
        self._open.append(ticket)
        self._tickets[id(own)] = ticket
        shard = own.range.shard
        work = self._work.get(shard)
        if work is None:
            work = self._work[shard] = Work(Lane(shard))
        work.inbox.append(own)
        work.unread.append(ticket)

    def take(self, now: float) -> Work | float:
        """Return the shard to go on with, which nobody else gets until `release`, or the seconds until there is one.

        Of those that may go on now it is the one with the oldest request, because that one holds up the window.
        """
        best: Work | None = None
        wait = float("inf")
        for work in self._work.values():
            if work.busy or not work.unread:
                continue
            if work.ready_at > now:
                wait = min(wait, work.ready_at - now)
            elif best is None or work.unread[0].number < best.unread[0].number:
                best = work
        if best is None:
            return wait
        best.busy = True
        for request in best.inbox:
            best.lane.add(request)
        best.inbox.clear()
        return best

    def release(self, work: Work) -> list[Reread]:
        """Take a shard back, and return the answers that came of it."""
        work.busy = False
        answers: list[Reread] = []
        for answer in work.lane.done:
            ticket = self._tickets.get(id(answer.request))
            if ticket is not None and not ticket.is_read:
                ticket.is_read = True
                answers.append(answer)
        work.lane.done.clear()
        while work.unread and work.unread[0].is_read:
            work.unread.popleft()
        return answers

    def abandon(self) -> list[Request]:
        """Return the requests that have no answer yet, in order: the caller has answers for all of them now."""
        unread = [ticket for ticket in self._open if not ticket.is_read]
        for ticket in unread:
            ticket.is_read = True
        for work in self._work.values():
            work.unread.clear()
            work.inbox.clear()
        return [ticket.request for ticket in unread]

    def answered(self, answer: Reread) -> None:
        """An answer was handed over."""
        self._tickets.pop(id(answer.request)).is_answered = True
        while self._open and self._open[0].is_answered:
            self._used -= self._open.popleft().cost


class Work:
    """One shard's share.

    Attributes:
        lane: What decides about it; only who has taken it may use it.
        inbox: Requests that came while it was taken.
        unread: Its requests without answer, in order; those behind the first may have one.
        ready_at: When it may go on.
        busy: Somebody has taken it.
    """

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.inbox: list[Request] = []
        self.unread: deque[Ticket] = deque()
        self.ready_at = float("-inf")
        self.busy = False
