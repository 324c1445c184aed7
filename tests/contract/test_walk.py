"""The walk through the code that the documents describe is the one a drawing takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WALK = ROOT / "docs" / "walk.md"
STEPS = re.findall(r"`([\w/]+\.py):(\w+)`", WALK.read_text(encoding="utf-8"))

# Notes each function of the package as it is entered, while the command draws.
TRACER = """
import sys
from pathlib import Path
import sakuga
import torch  # its own import is not looked at, which would take long
package, seen = str(Path(sakuga.__file__).parent) + "/", []
def note(frame, event, arg):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(package):
        seen.append((code.co_filename[len(package):], code.co_name))
from sakuga.commands.cli import main
sys.setprofile(note)
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
finally:
    sys.setprofile(None)
for file, name in seen:
    print(f"{file}:{name}", file=sys.stderr)
"""


def test_every_function_of_the_walk_is_entered_in_its_order(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TRACER, "draw", "1girl, blue_hair, smile", "--seed", "7"]
    flags = ["--steps", "2", "--size", "128", "--device", "cpu", "--no-cache"]
    said = subprocess.run(
        [*command, *flags, "--out", str(tmp_path / "walk.png")],
        capture_output=True, text=True, check=False, env={**os.environ, "SAKUGA_CACHE": ""},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    entered = iter(said.stderr.splitlines())
    named = [f"{file}:{name}" for file, name in STEPS]
    assert len(named) > 25
    # Each is looked for behind the one before it.
    assert [one for one in named if one not in entered] == []
