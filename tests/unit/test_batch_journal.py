"""The journal of a batch, its leases, and its folder: what holds whoever is killed or sleeps."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sakuga.batch.journal import Journal, packed, unpacked
from sakuga.batch.lease import Leases

pytestmark = pytest.mark.unit

DONE = {"file": "a.png", "size": 1, "changed": 2, "sha256": "0"}


class Clock:
    """Seconds as a test wants them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Fails:
    """Fails once at a place."""

    def __init__(self, place: str, error: BaseException) -> None:
        self.place, self.error = place, error

    def __call__(self, place: str) -> None:
        if place == self.place:
            self.place = ""
            raise self.error


def from_elsewhere(leases: Leases) -> None:
    """Let the owner of leases be of another machine, whose processes cannot be seen."""
    leases.owner.write_text(leases.owner.read_text().replace('"machine": "', '"machine": "other '))


def test_what_one_process_writes_another_reads(tmp_path: Path) -> None:
    one, other = Journal(tmp_path), Journal(tmp_path)
    one.append("done", "a", DONE)
    assert not other.settled("a")
    other.refresh()
    assert other.done["a"].file == "a.png"
    one.append("failed", "b", {"error": "too large"})
    other.refresh()
    assert other.settled("b")
    assert other.troubles["b"].error == "too large"
    one.append("retried", "b", {"failures": 1, "deaths": 0})
    other.refresh()
    assert not other.settled("b")


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_line_costs_nothing_but_itself(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path)
    journal.append("done", "a", DONE)
    journal.append("done", "b", DONE)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-cut])
    again = Journal(tmp_path)
    again.refresh()
    assert set(again.done) == {"a"}


def test_a_process_goes_on_behind_its_own_torn_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path, Fails("line", OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        journal.append("done", "a", DONE)
    journal.append("done", "b", DONE)
    again = Journal(tmp_path)
    again.refresh()
    assert set(again.done) == set(journal.done) == {"b"}
    assert again.torn == 1


def test_every_changed_byte_of_a_line_is_seen() -> None:
    line = packed({"event": "done", "id": "a", **DONE})
    assert unpacked(line) == {"event": "done", "id": "a", **DONE}
    for place in range(len(line) - 1):
        assert unpacked(line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]) is None


def test_two_deaths_settle_an_item(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("struck", "a", {"error": "SIGKILL"})
    assert not journal.settled("a")
    journal.append("struck", "a", {"error": "SIGKILL"})
    assert journal.settled("a")


def test_an_item_has_one_owner(tmp_path: Path) -> None:
    one, other = Leases(tmp_path), Leases(tmp_path)
    lease = one.claim("a")
    assert lease is not None
    assert other.claim("a") is None
    assert one.holds(lease)
    one.release(lease)
    assert other.claim("a") is not None
    assert not one.holds(lease)


def test_who_slept_past_its_lease_holds_it_no_more(tmp_path: Path) -> None:
    clock = Clock()
    sleeper, other = Leases(tmp_path), Leases(tmp_path, lost=60, clock=clock)
    lease = sleeper.claim("a")
    assert lease is not None
    from_elsewhere(sleeper)
    assert other.claim("a") is None
    clock.now = 59
    assert other.claim("a") is None
    clock.now = 61
    taken = other.claim("a")
    assert taken is not None
    assert taken.number == lease.number + 1
    sleeper.beat()
    assert not sleeper.holds(lease)
    sleeper.release(lease)
    assert other.holds(taken)
    other.release(taken)
    assert not sleeper.holds(lease)


def test_a_beat_keeps_a_lease_whatever_the_clocks_say(tmp_path: Path) -> None:
    clock = Clock()
    owner, other = Leases(tmp_path), Leases(tmp_path, lost=60, clock=clock)
    lease = owner.claim("a")
    assert lease is not None
    from_elsewhere(owner)
    for now in (0, 50, 100, 150, 200):
        clock.now = now
        owner.beat()
        assert other.claim("a") is None
    os.utime(owner.owner, (2**31, 2**31))  # a clock that jumped by years is one beat, no more
    assert other.claim("a") is None
    clock.now += 59
    assert other.claim("a") is None
    assert owner.holds(lease)


def test_a_dead_process_of_this_machine_is_known_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from sakuga.batch.lease import Leases\n"
        "print(Leases(Path(sys.argv[1])).claim('a').number)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert said.stdout == "1\n"
    lease = Leases(tmp_path).claim("a")
    assert lease is not None
    assert lease.number == 2


def test_the_folder_of_leases_goes_when_nobody_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    one, other = Leases(folder), Leases(folder)
    with other.beating():
        other.claim("a")
        with one.beating():
            pass
        one.sweep()
        assert folder.exists()
    other.sweep()
    assert folder.exists()  # this process lives, and has not released its item
