"""Read-only tables shipped with the package, each parsed once."""

import tomllib
from functools import cache
from importlib import resources


@cache
def load(name: str) -> dict[str, object]:
    """Return the TOML table `name` (with its ending) of this folder.

    Raises FileNotFoundError when there is no such table.
    """
    return tomllib.loads((resources.files(__name__) / name).read_text(encoding="utf-8"))


__all__ = ["load"]
