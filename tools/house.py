"""Figures of the house, to look at and to answer for: `python -m tools.house [--json]`.

Branch coverage of a sans-IO module counts its own test file alone, from one run of tests/unit that
is repeated when a source or a test is newer than its data in build/.
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import grimp

ROOT = Path(__file__).resolve().parent.parent
SANS_IO = (
    "errors",
    "units",
    "profile",
    "registry",
    "crypto",
    "machine",
    "wire",
    "dve",
    "potcp",
    "dpdp",
    "reclaim",
    "sources",
)
CITING_ROOMS = ("wire", "potcp", "vppn", "dpdp", "snmp", "mplamps")
MODULE_LINES, DRIVER_LINES, FUNCTION_LINES = 600, 300, 70
CITATION = re.compile(r"\b[A-Z]{4}-\d+(?:\.\d+)*-\d\d+\b|^\s*## [\w.-]+#[\d.]+", re.MULTILINE)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """One file of the package with its tree."""

    path: Path
    name: str
    source: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Count the lines of the file."""
        return self.source.count("\n")

    @property
    def limit(self) -> int:
        """Name the size past which two concerns are likely."""
        return DRIVER_LINES if "drivers" in self.path.parts else MODULE_LINES

    def functions(self) -> Iterator[tuple[str, int]]:
        """Yield (name, lines) of every function."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def read(root: Path) -> list[Module]:
    """Read every module of the package below `root`."""
    found = []
    for path in sorted((root / "powertcp").rglob("*.py")):
        relative = path.relative_to(root)
        source = path.read_text(encoding="utf-8")
        name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        found.append(Module(relative, name, source, ast.parse(source)))
    return found


def import_cycles(package: str = "powertcp") -> int:
    """Count the groups of modules that import one another in a circle."""
    graph = grimp.build_graph(package, cache_dir=None)
    reach = {module: graph.find_upstream_modules(module) for module in graph.modules}
    groups = {
        frozenset({module} | {other for other in above if module in reach[other]})
        for module, above in reach.items()
    }
    return sum(len(group) > 1 for group in groups)


def undocumented(module: Module) -> bool:
    """Say whether a public module lacks its docstring."""
    public = not any(part.startswith("_") for part in module.name.split("."))
    return public and ast.get_docstring(module.tree) is None


def _lines_below(folder: Path) -> int:
    return sum(path.read_text(encoding="utf-8").count("\n") for path in folder.rglob("*.py"))


def figures(root: Path) -> dict[str, Any]:
    """Return every figure that needs no test run."""
    modules = read(root)
    functions = [
        (lines, f"{module.path}:{name}") for module in modules for name, lines in module.functions()
    ]
    citing = [module for module in modules if module.path.parts[1] in CITING_ROOMS]
    citations = sum(len(CITATION.findall(module.source)) for module in citing)
    citing_lines = sum(module.lines for module in citing)
    package_lines = sum(module.lines for module in modules)
    over = [
        f"{module.path}: {module.lines} lines" for module in modules if module.lines > module.limit
    ]
    over += [f"{where}: {lines} lines" for lines, where in functions if lines > FUNCTION_LINES]
    return {
        "modules": len(modules),
        "max_module_lines": max(module.lines for module in modules),
        "max_function_lines": max((lines for lines, _ in functions), default=0),
        "over_limit": sorted(over),
        "spec_citations_per_kloc": round(1000 * citations / max(citing_lines, 1), 1),
        "package_lines": package_lines,
        "test_ratio": round(_lines_below(root / "tests") / max(package_lines, 1), 2),
        "type_ignores": sum(module.source.count("# type: ignore") for module in modules),
        "undocumented_modules": [module.name for module in modules if undocumented(module)],
    }


def _measure(root: Path, data: Path) -> None:
    looked_at = ("powertcp/**/*.py", "tests/unit/**/*.py", "tests/*.py")
    newest = max(path.stat().st_mtime for names in looked_at for path in root.glob(names))
    if data.exists() and data.stat().st_mtime > newest:
        return
    data.parent.mkdir(exist_ok=True)
    print("running tests/unit under coverage", file=sys.stderr)
    command = [sys.executable, "-m", "coverage", "run", "--data-file", str(data), "-m", "pytest"]
    done = subprocess.run(
        # the same examples each time, so that the figure moves with the code alone
        [*command, "-q", "tests/unit", "-p", "no:trio", "--hypothesis-seed", "3251"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        stdout=sys.stderr,
    )
    if done.returncode:
        data.unlink(missing_ok=True)
        raise RuntimeError(f"tests/unit failed with {done.returncode}: no figure of what it covers")


def own_branch_coverage(root: Path) -> dict[str, float]:
    """Return per sans-IO module the part of its lines and branches that its own test file takes."""
    data = root / "build" / ".coverage-own"
    _measure(root, data)
    measured = coverage.Coverage(data_file=str(data), config_file=str(root / "pyproject.toml"))
    measured.load()
    found: dict[str, float] = {}
    for module in read(root):
        parts = module.name.split(".")[1:]
        if not parts or parts[0] not in SANS_IO or module.path.name == "__init__.py":
            continue
        test = ".".join(["tests", "unit", *parts[:-1], f"test_{parts[-1]}"])
        measured.get_data().set_query_contexts([rf"^{re.escape(test)}\.", "^$"])
        path = str(root / module.path)
        _, statements, _, missing, _ = measured.analysis2(path)
        branches = measured.branch_stats(path)
        total = len(statements) + sum(all_of for all_of, _ in branches.values())
        taken = len(statements) - len(missing) + sum(some for _, some in branches.values())
        found[module.name] = round(100 * taken / total, 1) if total else 100.0
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.house", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--no-run", action="store_true", help="leave out what needs a test run")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree to look at")
    options = parser.parse_args(arguments)
    table = figures(options.root)
    if options.root == ROOT:
        table["import_cycles"] = import_cycles()
    failed = False
    if not options.no_run:
        try:
            table["own_branch_coverage"] = own_branch_coverage(options.root)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            failed = True
    if options.json:
        print(json.dumps(table))
        return int(failed)
    for name, value in table.items():
        if isinstance(value, dict):
            value = "".join(f"\n  {key:<32} {part:5.1f} %" for key, part in value.items())
        elif isinstance(value, list):
            value = "".join(f"\n  {part}" for part in value) or "none"
        print(f"{name}: {value}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
