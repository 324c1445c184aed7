"""The pictures a server has drawn: files under names of its own, as many as a limit lets stay."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from sakuga.files.atomic import sweep, write_atomically
from sakuga.server.database import Database
from sakuga.server.index import Drawn, PictureIndex

MIB = 1 << 20


class PictureStore:
    """Pictures on disk, up to a limit: the oldest go first."""

    def __init__(self, database: Database, folder: Path, limit: int, reserve: int) -> None:
        """limit, reserve: MiB that pictures may take, and that stay free on the disk."""
        self._database, self._limit, self._reserve = database, limit * MIB, reserve * MIB
        self.index = PictureIndex(database)
        self._files, self._thumbnails = folder / "pictures", folder / "thumbnails"
        for each in (self._files, self._thumbnails):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(each)
        self._clear_strays()

    @property
    def full(self) -> str | None:
        """Why no picture can be kept; None if one can."""
        free = shutil.disk_usage(self._files).free
        if free >= self._reserve:
            return None
        return f"The disk is full: {free // MIB} MiB are free, {self._reserve // MIB} stay so."

    def write(self, drawn: Drawn) -> None:
        """Put the files of a picture in place; the index then lets it be found. Raises OSError."""
        write_atomically(self.file(drawn.id), drawn.png, replace=True)
        write_atomically(self.thumbnail(drawn.id), drawn.thumbnail, replace=True)

    def discard(self, drawn: Sequence[Drawn]) -> None:
        """Remove the files of pictures that nobody wants any more."""
        self._unlink([one.id for one in drawn])

    def file(self, id: str) -> Path:
        """Where the PNG of a picture of this store lies."""
        return self._files / f"{id}.png"

    def thumbnail(self, id: str) -> Path:
        """Where its small WebP lies."""
        return self._thumbnails / f"{id}.webp"

    def delete(self, ids: Sequence[str]) -> list[str]:
        """Remove pictures; which of them were there."""
        deleted = []
        with self._database.changing() as rows:
            for id in ids:
                if rows.execute("DELETE FROM pictures WHERE id = ?", (id,)).rowcount:
                    rows.execute("DELETE FROM tags WHERE picture = ?", (id,))
                    deleted.append(id)
        self._unlink(deleted)
        return deleted

    def keep_limit(self) -> list[str]:
        """Remove the oldest pictures until the rest fit; which went."""
        gone, room = [], self._limit
        query = "SELECT id, bytes FROM pictures ORDER BY id DESC"
        for index, (id, size) in enumerate(self._database.rows(query)):
            room -= size
            if room < 0 and index:  # the newest stays
                gone.append(id)
        return self.delete(gone)

    def _unlink(self, ids: Sequence[str]) -> None:
        for id in ids:
            for file in (self.file(id), self.thumbnail(id)):
                with contextlib.suppress(OSError):
                    file.unlink()

    def _clear_strays(self) -> None:
        """Remove files that no row tells of: of jobs that a killed server did not end."""
        known = {id for (id,) in self._database.rows("SELECT id FROM pictures")}
        for file in (*self._files.glob("*.png"), *self._thumbnails.glob("*.webp")):
            if file.stem not in known:
                with contextlib.suppress(OSError):
                    file.unlink()
