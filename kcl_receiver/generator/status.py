"""The generator's live state as plain values; positions as text, times in seconds, sizes in bytes."""

from __future__ import annotations

from typing import Any

from kcl_receiver.errors import ReceiverError
from kcl_receiver.generator.pipeline import Pipeline
from kcl_receiver.generator.roster import Roster
from kcl_receiver.generator.session import Session
from kcl_receiver.generator.settings import GeneratorSettings


def status(
    settings: GeneratorSettings,
    roster: Roster,
    pipeline: Pipeline,
    *,
    failing: ReceiverError | None,
    skipped: int,
    draining: bool,
    now: float,
) -> dict[str, Any]:
    """Return the state of the generator and of every shard that it has heard of."""
    since = pipeline.building_since
    return {
        "application": settings.application,
        "writer": settings.writer,
        "draining": draining,
        "failing": None if failing is None else str(failing),
        "blocks_stored": pipeline.totals.blocks,
        "records_stored": pipeline.totals.records,
        "bytes_stored": pipeline.totals.size,
        "records_skipped": skipped,
        "blocks_in_flight": pipeline.blocks_in_flight,
        "building_bytes": pipeline.building_bytes,
        "building_seconds": 0.0 if since is None else round(now - since, 3),
        "window_bytes": settings.window_bytes,
        "shards": [_shard_status(session) for _, session in sorted(roster.current.items())],
    }


def _shard_status(session: Session) -> dict[str, Any]:
    """Return the state of a shard's youngest session."""
    stored = session.tracker.stored_position
    return {
        "shard": session.shard,
        "session": session.id,
        "state": session.state.value,
        "problem": None if session.problem is None else str(session.problem),
        "pid": session.hello.pid,
        "connected": session.connection is not None,
        "records": session.records,
        "delivered": None if session.delivered is None else str(session.delivered),
        "stored_through": None if stored is None else str(stored),
        "checkpoint": None if session.checkpoint is None else str(session.checkpoint),
        "behind_millis": session.behind,
        "window_used": session.tracker.unstored_bytes,
        "waiting": session.pending is not None,
        "shard_end": session.shard_end_recorded,
    }
