"""sakuga draws anime pictures from XML-structured prompts.

    sakuga.draw("1girl, smile", seed=7).save("smile.png")

`draw` makes one picture; `open` gives an Engine for many, whose `generate` tells of every step,
and whose `batch` reads all texts first; `NewbiePipeline` is called as diffusers' pipelines are;
`lint` says what a prompt gets wrong. What is named here is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, whose import would take longer than all of this
if TYPE_CHECKING:
    __version__: str
    from sakuga.api.engine_spec import Budget, EngineSpec
    from sakuga.api.events import ImageGenerator, Result
    from sakuga.api.request import Request
    from sakuga.engine.engine import Engine
    from sakuga.engine.pipeline import DiT, NewbiePipeline
    from sakuga.engine.simple import draw, open
    from sakuga.errors import SakugaError
    from sakuga.prompt.lint import lint

__all__ = [
    "Budget",
    "DiT",
    "Engine",
    "EngineSpec",
    "ImageGenerator",
    "NewbiePipeline",
    "Request",
    "Result",
    "SakugaError",
    "draw",
    "lint",
    "open",
]

_HOMES = {
    "Budget": "api.engine_spec",
    "DiT": "engine.pipeline",
    "Engine": "engine.engine",
    "EngineSpec": "api.engine_spec",
    "ImageGenerator": "api.events",
    "NewbiePipeline": "engine.pipeline",
    "Request": "api.request",
    "Result": "api.events",
    "SakugaError": "errors",
    "draw": "engine.simple",
    "lint": "prompt.lint",
    "open": "engine.simple",
}


def __getattr__(name: str) -> object:
    """A public name, from the module it lives in."""
    from importlib import import_module  # noqa: PLC0415

    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("sakuga")
    if name not in _HOMES:
        raise AttributeError(f"module 'sakuga' has no attribute {name!r}")
    found: object = getattr(import_module(f"sakuga.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    """The public names."""
    return __all__
