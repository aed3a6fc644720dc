"""What is paused (pure)."""

from __future__ import annotations

from collections.abc import Iterator

from streamer_store import PauseKind
from streamer_store.pause import OF_ACTIONS
from streamer_worker.cli.formatting import counted, in_one_unit
from streamer_worker.cli.pause_texts import end_command, pause_text
from streamer_worker.cli.status.finding import LISTED, Finding, wait_text
from streamer_worker.cli.status.snapshot import Snapshot


def pause_findings(snapshot: Snapshot) -> Iterator[Finding]:
    """Yield what is paused. A fuse that has blown is a problem, any other pause a notice."""
    fuses = [pause for pause in snapshot.paused if pause.kind is PauseKind.FUSE]
    others = [pause for pause in snapshot.paused if pause.kind is not PauseKind.FUSE]
    actions = snapshot.waiting_actions()
    for pause in [*fuses, *others][:LISTED]:
        is_fuse = pause.kind is PauseKind.FUSE
        age = in_one_unit(max(0.0, (snapshot.now - pause.at).total_seconds()))
        found = actions.get(pause.name) if pause.kind in OF_ACTIONS else None
        waits = f" ({wait_text(found.count)})" if found is not None else ""
        yield Finding(
            level="problem" if is_fuse else "notice",
            code="fuse_blown" if is_fuse else "paused",
            text=f"{pause_text(pause)}, since {age}{waits}",
            todo=f"look for its errors; one request that succeeds ends it, or {end_command(pause)}"
            if is_fuse
            else f"{end_command(pause)} ends it",
        )
    if len(snapshot.paused) > LISTED:
        yield Finding(
            level="notice",
            code="paused",
            text=f"{counted(len(snapshot.paused) - LISTED, 'more pause')}",
            todo="`streamer-worker pauses` lists them",
        )
