"""List the public names of every package; tests/meta/exports.txt holds them, a change is reviewed."""

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = Path("tests") / "meta" / "exports.txt"


def exports(root: Path) -> str:
    """Return `package: name name ..` for each package below `root`/powertcp, sorted."""
    lines = []
    for path in sorted((root / "powertcp").rglob("__init__.py")):
        package = ".".join(path.parent.relative_to(root).parts)
        names: list[str] = []
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                names = sorted(ast.literal_eval(node.value))  # type: ignore[attr-defined]
        lines.append(f"{package}: {' '.join(names)}".rstrip(" "))
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Compare with the list, or write it; 1 when they differ."""
    parser = argparse.ArgumentParser(prog="tools/exports.py", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree to look at")
    parser.add_argument("--write", action="store_true", help="make the list what the tree says")
    options = parser.parse_args(arguments)
    now, path = exports(options.root), options.root / LIST
    if options.write:
        path.write_text(now, encoding="utf-8")
        return 0
    listed = set(path.read_text(encoding="utf-8").splitlines())
    for line in sorted(listed ^ set(now.splitlines())):
        print(f"{'listed' if line in listed else 'exported'}: {line}")
    return 0 if listed == set(now.splitlines()) else 1


if __name__ == "__main__":
    sys.exit(main())
