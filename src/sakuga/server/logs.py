"""What a server writes down: one JSON object a line, and never a prompt, a body or a token."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any


def log(event: str, told: Mapping[str, Any]) -> None:
    """Write a line to standard error."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"
    sys.stderr.write(json.dumps({"time": stamp, "event": event, **told}) + "\n")
    sys.stderr.flush()
