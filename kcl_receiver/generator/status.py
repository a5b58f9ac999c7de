"""The generator's live state, as `report` has it; positions as text, times in seconds, sizes in bytes."""

from __future__ import annotations

from kcl_receiver.generator.pipeline import Pipeline
from kcl_receiver.generator.session import Session
from kcl_receiver.generator.session_registry import SessionRegistry
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.status.report import CoreState, ShardState, Trouble, UnreadState


def status(
    settings: GeneratorSettings,
    writer: str,
    roster: SessionRegistry,
    pipeline: Pipeline,
    *,
    failing: Trouble | None,
    skipped: int,
    draining: bool,
    now: float,
) -> CoreState:
    """Return the state of the generator and of every shard that it has heard of."""
    since = pipeline.building_since
    return CoreState(
        application=settings.application,
        writer=writer,
        draining=draining,
        failing=failing,
        silent_after=settings.silent_after,
        blocks_stored=pipeline.totals.blocks,
        records_stored=pipeline.totals.records,
        bytes_stored=pipeline.totals.size,
        records_skipped=skipped,
        blocks_in_flight=pipeline.blocks_in_flight,
        building_bytes=pipeline.building_bytes,
        building_seconds=0.0 if since is None else _age(since, now),
        window_bytes=settings.window_bytes,
        shards=tuple(_shard_state(session, now) for _, session in sorted(roster.current.items())),
    )


def _shard_state(session: Session, now: float) -> ShardState:
    """Return the state of a shard's youngest session."""
    stored = session.tracker.stored_position
    return ShardState(
        shard=session.shard,
        session=session.id,
        state=session.state.value,
        problem=None if session.problem is None else str(session.problem),
        pid=session.hello.pid,
        connected=session.connection is not None,
        spoke_seconds=_age(session.spoke, now),
        records=session.records,
        delivered=None if session.delivered is None else str(session.delivered),
        stored_through=None if stored is None else str(stored),
        checkpoint=None if session.last_checkpoint is None else str(session.last_checkpoint),
        behind_millis=session.behind,
        behind_seconds=None if session.behind_at is None else _age(session.behind_at, now),
        window_used=session.tracker.unstored_bytes,
        waiting=session.pending is not None,
        shard_end=session.shard_end_recorded,
        read_until=-1 if session.reading is None else session.reading[1],
        possibly_trimmed=_unread(session),
        possibly_trimmed_links=session.unread_links,
    )


def _age(since: float, now: float) -> float:
    return round(max(0.0, now - since), 3)


def _unread(session: Session) -> UnreadState | None:
    if session.unread is None:
        return None
    after, (begin, end) = session.unread
    return UnreadState(after=str(after), arrived_from=begin, arrived_to=end)
