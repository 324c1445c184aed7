"""Hold readers, ours and others', against files: python -m wild FOLDER (see scripts/test-wild)."""

from __future__ import annotations

import sys
from pathlib import Path

from wild import adapters, files, hidden, kin, pictures, quantised, words


def main(arguments: list[str]) -> int:
    """Print a line for each comparison and the summary; give the exit status."""
    if len(arguments) != 1:
        print("usage: scripts/test-wild", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    gguf, tokenizer = files.gemma(folder), files.tokenizer(folder)
    rows = [*pictures.compare(folder), *words.compare(gguf, tokenizer)]
    rows += hidden.compare(gguf, tokenizer)
    rows += quantised.compare(folder)
    rows += kin.compare()
    rows += adapters.compare(folder)
    for row in rows:
        print(row)
    failed = sum(not row.held for row in rows)
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
