"""Failures on order, so that tests can see the engine survive them.

A plan of faults is a text such as `nan@decode:1,oom@step3:1`: what happens, where, and
how many times (1 if not said). What: `nan` (one value becomes NaN), `oom` (the allocator
gives up), `stop` (the user presses Ctrl-C), `hang` (a second passes), `kill` (the process
dies at once), `eio` (the disk fails), `full` (the disk is full). Where: `gemma`, `jina`,
`encode`, `step1`, `step2` ..., `decode`, `save`; in a batch also `leased`, `drafted`, `renamed`,
`line` (within one of its journal), `beat`. It is an observer of drawings (`engine.run`);
without a plan there is none.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections import Counter
from typing import Any

from sakuga.errors import RequestError

KINDS = ("nan", "oom", "stop", "hang", "kill", "eio", "full")
PLACES = re.compile(r"gemma|jina|encode|step[1-9]\d*|decode|save|leased|drafted|renamed|line|beat")


class Faults:
    """The faults still to come. Raises RequestError on a text that is no such plan."""

    def __init__(self, plan: str) -> None:
        self._left: Counter[tuple[str, str]] = Counter()
        for entry in filter(None, plan.split(",")):
            match = re.fullmatch(r"(\w+)@(\w+?)(?::(\d+))?", entry.strip())
            if not match or match[1] not in KINDS or not PLACES.fullmatch(match[2]):
                raise RequestError(
                    "a fault must be WHAT@WHERE or WHAT@WHERE:TIMES",
                    repr(entry),
                    f"WHAT is one of {', '.join(KINDS)}; "
                    "WHERE gemma, jina, encode, step1 ..., decode, save, "
                    "leased, drafted, renamed, line or beat.",
                )
            self._left[match[2], match[1]] += int(match[3] or 1)

    def strike(self, place: str, *tensors: Any) -> None:
        """Do what is due at `place`; `nan` poisons the first value of each of the tensors."""
        for kind in KINDS:
            if self._left[place, kind]:
                self._left[place, kind] -= 1
                _strike(kind, place, tensors)


def _strike(kind: str, place: str, tensors: tuple[Any, ...]) -> None:
    match kind:
        case "nan":
            for tensor in tensors:
                tensor.view(-1)[0] = float("nan")
        case "oom":
            raise RuntimeError(f"DefaultCPUAllocator: can't allocate memory, ordered at {place}")
        case "stop":
            raise KeyboardInterrupt
        case "hang":
            time.sleep(1.0)
        case "kill":
            os.kill(os.getpid(), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        case "eio":
            raise OSError(errno.EIO, f"Input/output error, ordered at {place}")
        case "full":
            raise OSError(errno.ENOSPC, f"No space left on device, ordered at {place}")
