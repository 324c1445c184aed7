"""Clients that have pins of their own, each run in the environment that was made for them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from servers import RunningServer

CHEAP = ("--request-seconds", "3", "--queue", "8")  # admits one step of 128x128

SD_BACKEND = """
import sys
from urllib.request import urlopen
import sd_backend_client
print(sorted(name for name in dir(sd_backend_client) if not name.startswith("_")))
"""
LITELLM = """
import sys, litellm
answer = litellm.image_generation(
    model="openai/sakuga", prompt="1girl", size="128x128", api_key="x",
    api_base=sys.argv[1] + "/v1",
    extra_body={"num_inference_steps": 1},
)
assert answer.data[0].b64_json or answer.data[0].url, answer
"""
LANGCHAIN = """
import os, sys
os.environ["OPENAI_API_KEY"] = "x"
from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper
asked = {"model": "sakuga", "size": "128x128", "n": 1}
found = DallEAPIWrapper(base_url=sys.argv[1] + "/v1", **asked).run("1girl")
assert found.startswith("http"), found
"""
PROGRAMS = {"litellm": LITELLM, "langchain": LANGCHAIN, "sd-backend-client": SD_BACKEND}


def clients(store: Path, folder: Path) -> Iterator[tuple[str, str, bool]]:
    """Each client draws one picture."""
    python = folder / "clients" / "bin" / "python"
    with RunningServer(store) as server:
        server.ended(server.submit())
        for name, program in PROGRAMS.items():
            ended = subprocess.run(
                [str(python), "-c", program, server.url], capture_output=True, text=True,
                timeout=300, check=False, env={**os.environ, "PYTHONPATH": ""},
            )  # fmt: skip
            last = (ended.stderr or ended.stdout).strip().rpartition("\n")[2][:160]
            yield name, "drew" if not ended.returncode else last, not ended.returncode


def cases(store: Path, folder: Path, count: int) -> Iterator[tuple[str, str, bool]]:
    """Generated requests for every route of the schema: no server error, no answer out of it."""
    with RunningServer(store, *CHEAP) as server:
        server.ended(server.submit())
        command = [
            str(folder / "clients" / "bin" / "schemathesis"), "run", f"{server.url}/openapi.json",
            "--max-examples", str(max(1, count // 60)), "--seed", "1",
            "--checks", "not_a_server_error,response_schema_conformance",
            "--exclude-path-regex", "/events$|/health/generate", "--request-timeout", "60",
        ]  # fmt: skip
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=3600, check=False,
            env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
        lines = [line for line in ended.stdout.splitlines() if line.strip()]
        (folder / "schemathesis.txt").write_text(ended.stdout + ended.stderr, encoding="utf-8")
        yield "schemathesis", (lines or ["nothing"])[-1].strip("= "), ended.returncode == 0
