"""What clients call things of this server by: they never write a path of it, nor read one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sakuga.errors import RequestError

ADAPTER = re.compile(r"[\w][\w .()+-]{0,119}")


class PublicNames:
    """Adapters by their names, and texts without the places of this machine."""

    def __init__(self, adapters: str | None, hidden: tuple[str | None, ...]) -> None:
        """hidden: folders that no text for a client may tell."""
        self._folder = Path(adapters) if adapters else None
        told = {str(Path(one)) for one in (adapters, *hidden) if one and "/" in str(Path(one))}
        self._hidden = tuple(sorted(told, key=len, reverse=True))

    def adapters(self) -> dict[str, Path]:
        """The adapters that clients may name."""
        if self._folder is None:
            return {}
        found = sorted(self._folder.glob("*.safetensors"))
        return {one.stem: one for one in found if ADAPTER.fullmatch(one.stem)}

    def place(self, adapter: str) -> str:
        """An adapter as an engine takes it, with its file. Raises RequestError."""
        known = self.adapters()
        name, colon, rest = adapter.partition(":")
        if name not in known:
            fix = f"Known: {', '.join(known)}." if known else "This server has none."
            raise RequestError("an adapter is one of this server's", repr(name[:80]), fix)
        return f"{known[name]}{colon}{rest}"

    def placed(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request of a job as an engine takes it. Raises RequestError."""
        return {**request, "lora": [self.place(one) for one in request.get("lora", ())]}

    def scrubbed(self, text: str) -> str:
        """A text without the folders that are nobody's business."""
        for folder in self._hidden:
            text = text.replace(f"{folder}/", "").replace(folder, "a folder of this server")
        return text
