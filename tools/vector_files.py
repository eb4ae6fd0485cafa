"""The command line of the scripts that make vectors: write them, or compare them with those there."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(
    argv: Sequence[str],
    name: str,
    doc: str | None,
    root: Path,
    made: Mapping[Path, str],
    there: set[Path],
) -> int:
    """Write `made`, or with --check compare it with `there`; paths are shown from `root` on.

    Returns 0, or 1 for a difference.
    """
    parser = argparse.ArgumentParser(prog=name, description=doc)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args(argv).check
    stale = [path for path, text in made.items() if path not in there or path.read_text() != text]
    extra = sorted(there - set(made))
    for path in [*stale, *extra] if check else extra:
        print(f"{path.relative_to(root)}: {'stale' if path in made else 'made by nobody'}")
    if not check:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path])
    refused = sum(path.parent.name == "bad" for path in made) // 2
    print(f"{len(made) // 2 - refused} good, {refused} bad, {len(stale)} stale")
    return 1 if extra or (check and stale) else 0
