"""Fail where code or tests cite what is not written: unknown ids, lost requirements, misquotations.

Ids stand in comments and docstrings of the package and in `requirement` marks of the tests.
A quotation is `## stem#section` followed by `## "text"`; it must be in that section of rfc/stem.txt.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ID = re.compile(
    r"\b(?:(?:PTCP|TCPO|VPPN|FWRL|LEDG|DPDP|MPLA|PLOC)-\d+(?:\.\d+)*-\d\d+"
    r"|EMAN-\d+(?:\.\d+)+|SEED-\d+-\d+(?:\.\d+)*-\d\d+)\b"
)
TARGET = re.compile(r"^\s*##\s+([\w.-]+)#([\w.]+)\s*$")
QUOTED = re.compile(r"^\s*##\s+(.*)$")
HEADING = re.compile(r"(?:^|(?<=\s))(\d+(?:\.\d+)*)\.?\s+(?=[A-Z])")


def _table(root: Path, name: str, key: str) -> dict[str, dict[str, object]]:
    path = root / "rfc" / name
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get(key, []) if path.exists() else []
    return {str(row["id"]): row for row in rows}


def _flat(text: str) -> str:
    return " ".join(text.split())


def comments_and_docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each comment and each docstring, if any text here holds an id."""
    if not ID.search(source):
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and node.body and ast.get_docstring(node, clean=False):
            first = node.body[0]
            lines = source.splitlines()[first.lineno - 1 : first.end_lineno]
            yield from enumerate(lines, first.lineno)


def marks(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, id) of each `requirement` mark."""
    if "requirement(" not in source:
        return
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr == "requirement":
            for argument in call.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.lineno, argument.value


def section(text: str, number: str) -> str | None:
    """Return the text of section `number` with its subsections; None when there is no such one.

    Works on flattened texts: a section begins at its number before a capital and ends at the next
    number that is neither its own nor below it. A table of contents gives short sections first, so
    every beginning counts. A section without number is named by the word that is its heading line.
    """
    if number.isalpha():
        named = re.search(rf"^{number}$(.*?)(?=^[A-Z][a-z]+$|\Z)", text, re.MULTILINE | re.DOTALL)
        return named and named[0]
    found = [match for match in HEADING.finditer(text) if match[1] == number]
    if not found:
        return None
    parts = []
    for match in found:
        end = len(text)
        for later in HEADING.finditer(text, match.end()):
            if not (later[1] == number or later[1].startswith(f"{number}.")) and _follows(
                number, later[1]
            ):
                end = later.start()
                break
        parts.append(text[match.start() : end])
    return "\n".join(parts)


def _follows(number: str, other: str) -> bool:
    """Say whether a heading `other` may come after section `number`: next sibling of any level."""
    own = [int(part) for part in number.split(".")]
    new = [int(part) for part in other.split(".")]
    depth = len(new)
    return depth <= len(own) and new[:-1] == own[: depth - 1] and new[-1] == own[depth - 1] + 1


def quotations(source: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield (line, stem, section, quotation) of each citation block."""
    if "##" not in source:
        return
    lines = source.splitlines()
    for index, line in enumerate(lines):
        if target := TARGET.match(line):
            words = []
            for later in lines[index + 1 :]:
                quoted = QUOTED.match(later)
                if not quoted or TARGET.match(later):
                    break
                words.append(quoted[1])
            yield index + 1, target[1], target[2], _flat(" ".join(words))


def _misquotation(root: Path, stem: str, number: str, quotation: str) -> str | None:
    path = root / "rfc" / f"{stem}.txt"
    if not path.exists():
        return f"no text rfc/{stem}.txt"
    text = path.read_text(encoding="utf-8", errors="replace")
    part = section(text, number)
    if part is None:
        return f"{stem} has no section {number}"
    if len(quotation) < 3 or not (quotation.startswith('"') and quotation.endswith('"')):
        return f"{stem}#{number}: a quotation in double quotes must follow"
    if quotation[1:-1] not in _flat(part):
        return f"{stem}#{number} does not say {quotation}"
    return None


def _sources(root: Path, folder: str) -> Iterator[tuple[str, str]]:
    for path in sorted((root / folder).rglob("*.py")):
        yield str(path.relative_to(root)), path.read_text(encoding="utf-8")


def faults(root: Path) -> list[str]:
    """Return every fault of the tree under `root`, as `file:line: sentence`."""
    known = _table(root, "requirements.toml", "requirement")
    exempt = _table(root, "exceptions.toml", "exception")
    cited: set[str] = set()
    tested: set[str] = set()
    found = [f"rfc/exceptions.toml: unknown id {name}" for name in exempt if name not in known]
    for folder in ("powertcp", "tests", "tools"):
        for name, source in _sources(root, folder):
            for line, text in comments_and_docstrings(source):
                ids = set(ID.findall(text))
                found += [f"{name}:{line}: unknown id {one}" for one in sorted(ids - set(known))]
                cited |= ids if folder == "powertcp" else set()
            for line, one in marks(source):
                tested.add(one)
                if one not in known:
                    found.append(f"{name}:{line}: unknown id {one}")
            for line, stem, number, quotation in quotations(source):
                if fault := _misquotation(root, stem, number, quotation):
                    found.append(f"{name}:{line}: {fault}")
    for name, row in known.items():
        if row["level"] != "MUST" or name in exempt:
            continue
        missing = [what for what, have in (("code", cited), ("test", tested)) if name not in have]
        if missing:
            found.append(f"rfc/requirements.toml: {name} has no {' and no '.join(missing)}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the faults; 1 when there are any."""
    parser = argparse.ArgumentParser(prog="tools/check_citations.py", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree to check")
    found = faults(parser.parse_args(arguments).root)
    print("\n".join(found) or "citations: ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
