"""What goes on, as it is watched: nothing is kept of what is over; who leaves harms nobody."""

from __future__ import annotations

import asyncio
import random

from sakuga.files.png import Picture
from sakuga.server.live import MOST_LINE, Feed, Feeds, encode_preview


def test_nothing_is_kept_of_what_is_over() -> None:
    async def watch() -> None:
        feeds = Feeds()
        feeds.run_in(asyncio.get_running_loop())
        feeds.restate("a")
        _, changed = feeds.watch("a")
        feeds.restate("a", over=True)
        await asyncio.wait_for(changed.wait(), 5)
        feeds.leave("a", changed, over=True)
        feeds.restate("b")
        feeds.restate("b", over=True)
        assert feeds._feeds == {}

    asyncio.run(watch())


def test_a_watcher_may_leave_while_the_end_is_told() -> None:
    """The watcher had gone before the teller looked again, which fell: a server stood still."""

    class Hasty(Feeds):
        def _wake(self, feed: Feed) -> None:
            self.leave("a", asyncio.Event(), over=True)

    feeds = Hasty()
    feeds.restate("a", over=True)
    assert feeds._feeds == {}


def test_a_preview_fits_on_a_line() -> None:
    noise = random.Random(0).randbytes(256 * 256 * 3)
    kind, data = encode_preview(Picture(256, 256, noise))
    assert kind == "jpeg"
    assert len(data) <= MOST_LINE
    assert encode_preview(Picture(16, 16, noise[: 16 * 16 * 3]))[0] == "png"
