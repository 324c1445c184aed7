"""Ctrl-C: while a command is loaded it ends the process at once, while it works it is raised."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

CODE = 130  # 128 and the number of the signal, as shells count
EARLY = b"sakuga: stopped by Ctrl-C before anything was begun.\n"


def stop(_number: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
    """End the process at once, with one sentence; for where nothing has to be put in order.

    An exception would not do: libraries that are being imported catch, lose or print it.
    """
    with contextlib.suppress(OSError):
        os.write(2, EARLY)
    os._exit(CODE)


def arm() -> None:
    """From now on Ctrl-C ends the process at once, unless it is ignored, as nohup wants it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Within an armed process, Ctrl-C is a KeyboardInterrupt; afterwards it comes too late."""
    if signal.getsignal(signal.SIGINT) is not stop:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Within, where libraries are imported, Ctrl-C ends the process at once again."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
