"""A worker process: told on standard input what to draw, it tells on standard output how it goes.

The first line of its input is an Assignment. When its input ends, whoever started it is dead,
and so it ends too, at once: nothing of a batch is lost by that.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sakuga.api.codec import typed
from sakuga.batch.album import Album
from sakuga.batch.crew import Assignment, read_rows
from sakuga.batch.journal import nothing
from sakuga.batch.worker import Worker
from sakuga.engine.engine import Engine
from sakuga.engine.faults import Faults
from sakuga.errors import SakugaError


def main() -> None:
    """Draw what is assigned; the exit code says how it ended."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it decides
    assignment = typed(Assignment, json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_starter, daemon=True).start()
    strike = Faults(assignment.faults).strike if assignment.faults else None
    try:
        engine = Engine.open(assignment.spec, observers=(strike,) if strike else ())
        worker = Worker(
            engine, Album(Path(assignment.place), strike or nothing), tell, stopping,
            (assignment.number, assignment.of), assignment.retry, assignment.redraw,
        )  # fmt: skip
        worker.run(read_rows(Path(assignment.rows)))
    except SakugaError as error:
        tell({"event": "ended", "exit": error.exit_code, "message": str(error)})
        sys.exit(error.exit_code)


def tell(event: Mapping[str, Any]) -> None:
    """Say what happens, a line of JSON."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _end_with_starter() -> None:
    while sys.stdin.readline():
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
