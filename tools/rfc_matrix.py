"""What each requirement rests on: citing code, tests, conformance cases, exceptions."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.check_citations import comments_and_docstrings
from tools.rfc_set import ID, RfcSet


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement: how many places cite it, how many tests and cases show it."""

    name: str
    level: str
    code: int
    tests: int
    cases: int
    exception: str

    @property
    def empty(self) -> bool:
        """Whether a MUST lacks code, or lacks test and case, without an exception."""
        shown = self.code and (self.tests or self.cases)
        return self.level == "MUST" and not shown and not self.exception


def cited(files: Iterable[Path]) -> Iterator[str]:
    """Yield each id in a comment or a docstring of `files`."""
    for path in files:
        for _, said in comments_and_docstrings(path.read_text(encoding="utf-8")):
            yield from ID.findall(said)


def marked(files: Iterable[Path], name: str) -> Iterator[str]:
    """Yield each id in the arguments of calls of `name` (a mark, a decorator) in `files`."""
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _called(node) == name:
                for argument in node.args:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield from ID.findall(argument.value)


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _count(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


def matrix(root: Path, spec: RfcSet) -> list[Row]:
    """Return one row per requirement, in the order of requirements.toml."""
    package = sorted((root / "powertcp").rglob("*.py"))
    code = _count(cited(package))
    tests = _count(marked(sorted((root / "tests").rglob("*.py")), "requirement"))
    cases = _count(marked(sorted((root / "powertcp/conformance").rglob("*.py")), "case"))
    excused = {str(row["id"]): f"{row['kind']} #{row['issue']}" for row in spec.exceptions}
    return [
        Row(
            name=name,
            level=str(row["level"]),
            code=code.get(name, 0),
            tests=tests.get(name, 0),
            cases=cases.get(name, 0),
            exception=excused.get(name, ""),
        )
        for row in spec.requirements
        for name in [str(row["id"])]
    ]


def show(rows: Sequence[Row], *, markdown: bool) -> str:
    """Return the matrix as text, empty rows marked, and a closing line of totals."""
    head = ("id", "level", "code", "tests", "cases", "exception")
    cells = [
        (r.name, r.level, str(r.code), str(r.tests), str(r.cases), r.exception or "-") for r in rows
    ]
    if markdown:
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(row) + " |" for row in cells]
    else:
        lines = ["{:<13} {:<6} {:>5} {:>5} {:>5}  {}".format(*row) for row in (head, *cells)]
        for at, row in enumerate(rows, 1):
            lines[at] += "  EMPTY" if row.empty else ""
    musts = [r for r in rows if r.level == "MUST"]
    covered = sum(1 for r in musts if r.code and (r.tests or r.cases))
    empty = sum(1 for r in rows if r.empty)
    excepted = sum(1 for r in rows if r.exception)
    total = f"{covered}/{len(musts)} MUST in code and tests, {excepted} exceptions, {empty} empty"
    return "\n".join([*lines, "", total])
