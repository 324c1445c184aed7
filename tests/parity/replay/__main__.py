"""Compare golden files: python -m replay FILE... (see scripts/parity)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from replay import adapters, lumina2, nextdit, sampling, text, vae
from replay.case import Case, CaseError, Row, Sheet, read_case

REPLAYS: dict[str, Callable[[Case, Sheet], None]] = {
    "nextdit_forward": nextdit.forward,
    "nextdit_cfg": nextdit.cfg,
    "sampling_closed_form": sampling.closed_form,
    "sampling_nextdit_cfg": nextdit.sampling,
    "jina_text": text.jina,
    "jina_text_official": text.official,
    "gemma_text": text.gemma,
    "lumina2": lumina2.replay,
    "vae": vae.autoencoder,
    "vae_bfl": vae.original,
    "lora": adapters.replay,
    "lokr": adapters.replay,
}


@torch.inference_mode()
def replay(case: Case) -> list[Row]:
    """Compute everything a case records. Raises CaseError if it asks for the unknown."""
    if case.kind not in REPLAYS:
        raise CaseError(f"the kind {case.kind!r} is not one of {', '.join(REPLAYS)}")
    if case.about.get("dtype", "float32") != "float32":
        raise CaseError(f"the dtype {case.about['dtype']!r} is not float32")
    sheet = Sheet(case)
    REPLAYS[case.kind](case, sheet)
    return list(sheet.finished())


def rows_of(file: Path) -> list[Row]:
    """Replay a file; one that cannot be replayed is one failed row."""
    try:
        rows = replay(read_case(file))
        return rows or [Row("-", float("nan"), 0.0, "nothing to compare")]
    except Exception as error:  # whatever it is, this file failed and the others are still run
        return [Row("-", float("nan"), 0.0, f"{type(error).__name__}: {error}")]


def main(names: list[str]) -> int:
    """Print a table per file and the summary; give the exit status."""
    if not names:
        print("usage: scripts/parity FILE...", file=sys.stderr)
        return 2
    files = [Path(name) for name in names]
    table = [(file.name, row) for file in files for row in rows_of(file)]
    width = max(len(f"{file} {row.name}") for file, row in table)
    for file, row in table:
        verdict = "excepted" if row.excepted else "held" if row.held else "FAILED"
        line = f"{file} {row.name}".ljust(width)
        print(f"{line}  {row.error:9.2e}  of {row.tolerance:.0e}  {verdict}  {row.note}".rstrip())
    print(summary(len(files), [row for _, row in table]))
    return 0 if all(row.held for _, row in table) else 1


def summary(files: int, rows: list[Row]) -> str:
    """Say it all in one line."""
    excepted = [row for row in rows if row.excepted]
    compared = [row for row in rows if not row.excepted]
    failed = [row for row in compared if not row.held]
    worst = max((row.error / row.tolerance for row in compared if row.held and row.tolerance),
                default=0.0)  # fmt: skip
    verdict = f"FAILED: {len(failed)} did not hold" if failed else "parity: all held"
    return (
        f"{verdict}; {len(compared)} tensors of {files} files compared, "
        f"{len(excepted)} excepted, worst of those held at {worst:.0%} of its tolerance"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
