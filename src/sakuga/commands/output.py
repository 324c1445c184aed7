"""Where the pictures of a drawing go, as which kind of file, and what is written beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sakuga.api.events import Result
from sakuga.api.options import Option, option, rule_of
from sakuga.api.said import texts_of
from sakuga.files.saving import KINDS, PNG, FileKind, kind_of, left_out


@dataclass(frozen=True, slots=True)
class Output:
    """Where pictures go, and what else is written."""

    out: str | None = option(
        Option("A file, a folder/, or - for standard output; sakuga-SEED.png when left out.")
    )
    force: bool = option(Option("Overwrite what is there.", flags=("--force",)), default=False)
    source: Path | None = option(
        Option(
            "Draw a picture again, as its receipt says; of another program's, what can be taken.",
            flags=("--from",),
        )
    )
    text: str | None = option(
        Option(
            "Draw what a settings text of A1111's kind says: text, a file, or -.",
            flags=("--from-text",),
        )
    )
    allow_other_weights: bool = option(
        Option("Let --from use another model.", flags=("--allow-other-weights",)), default=False
    )
    memory_report: Path | None = option(
        Option("Write memory over time here, as NAME.csv and NAME.svg.")
    )
    format: str | None = option(
        Option("What kind of file, where --out does not say it.", choices=tuple(KINDS))
    )
    quality: int | None = option(
        Option(
            "Of WebP, JPEG or AVIF; without it WebP loses nothing, JPEG has 95, AVIF 90.",
            low=1, high=100,
        )
    )  # fmt: skip
    no_metadata: bool = option(
        Option("Write pixels alone, without a receipt.", flags=("--no-metadata",)), default=False
    )

    def check(self) -> None:
        """Raise RequestError for a format or a quality that there is not."""
        for name in ("format", "quality"):
            value = getattr(self, name)
            if value is not None and (error := rule_of(Output, name).refuse(name, value)):
                raise error

    def kind(self, path: Path) -> FileKind:
        """The kind of file that a place gets. Raises RequestError for a quality that it lacks."""
        kind = kind_of(path.name) or KINDS[self.format or PNG.name]
        kind.options(self.quality)
        return kind

    def encoded(self, result: Result, path: Path) -> tuple[bytes, str | None]:
        """A picture as the file of a place, and what to know of what it could not hold."""
        kind = self.kind(path)
        data = result.encoded(kind.name, self.quality, not self.no_metadata)
        lost = () if self.no_metadata else left_out(texts_of(result.receipt), kind)
        if not lost:
            return data, None
        return data, f"A {kind.name} has no room for so long a text: without {', '.join(lost)}."
