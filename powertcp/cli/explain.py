"""`powertcp explain`: the packaged drafts, a requirement, a reason code, a name, or a flow."""

import difflib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Self

from powertcp.cli.parser import Parser
from powertcp.registry import REASONS

DONE = 0
NO = 1
USAGE = 2
WIDTH = 100
DRAFTS = ("protocol", "dpdp", "vppn", "mplamps", "locator")
FILES = {"locator": "power-locator"}
KINDS = {"type": "segment type", "option": "option", "flag": "flag", "reason": "reason code"}
REQUIREMENT = re.compile(r"[A-Za-z]{4}-\d+(?:\.\d+)*-\d\d")
EXAMPLE = """examples:
  powertcp explain 127.0.0.1:41772/1    why this flow has no or less power
  powertcp explain 309                  a reason code; also SHED, PTCP-7-04
  powertcp explain protocol             the draft, in $PAGER

exit status: 0 explained, 1 not known here, 2 usage, 3 no running daemon answers"""
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Library:
    """What the specification set offers to read: tables by name and the rendered drafts."""

    requirements: Mapping[str, Row]
    registry: Mapping[str, Sequence[Row]]
    drafts: Mapping[str, str]
    seeds: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Traversable) -> Self:
        """Read requirements, code points and drafts of `folder`.

        Raises FileNotFoundError when the tables are not there.
        """

        def table(name: str) -> dict[str, list[Row]]:
            return tomllib.loads((folder / name).read_text(encoding="utf-8"))

        texts = {
            item.name: item.read_text(encoding="utf-8")
            for item in folder.iterdir()
            if item.name.endswith(".txt")
        }
        drafts = {
            word: texts[name]
            for word in DRAFTS
            for name in sorted(texts)
            if re.fullmatch(rf"draft-powertcp-{FILES.get(word, word)}-\d\d\.txt", name)
        }
        rows = table("requirements.toml")["requirement"]
        return cls(
            requirements={str(row["id"]): row for row in rows},
            registry=table("registry.toml"),
            drafts=drafts,
            seeds={name: text.splitlines() for name, text in texts.items()},
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What is printed: text for people, an object for programs, and the exit status."""

    text: str
    value: Mapping[str, object]
    status: int = DONE
    find: str = ""


def packaged() -> Traversable:
    """Return the folder of the specification set: in a wheel _rfc, in a checkout rfc."""
    package = resources.files("powertcp")
    inside = package / "_rfc"
    return inside if inside.is_dir() else Path(str(package)).parent / "rfc"


# ---- what there is to explain -------------------------------------------------------------------


def explain(library: Library, what: str) -> Answer:
    """Return what the specification set says about `what`."""
    if what.lower() in DRAFTS:
        return _draft(library, what.lower())
    if REQUIREMENT.fullmatch(what):
        return _requirement(library, what.upper())
    if what.isdecimal():
        return _code(library, int(what))
    named = list(_named(library, what.upper()))
    if named:
        text = "\n\n".join(answer.text for answer in named)
        return Answer(text, {"name": what.upper(), "found": [answer.value for answer in named]})
    return _unknown(library, what)


def _draft(library: Library, word: str) -> Answer:
    text = library.drafts.get(word)
    if text is None:
        has = ", ".join(library.drafts) or "none"
        said = f"the draft {word} is not part of this version; there is: {has}"
        return Answer(said, {"draft": word, "text": None}, NO)
    return Answer(text.strip("\n"), {"draft": word, "text": text})


def _requirement(library: Library, name: str) -> Answer:
    row = library.requirements.get(name)
    if row is None:
        near = difflib.get_close_matches(name, library.requirements, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        return Answer(f"no requirement {name}{hint}", {"id": name, "text": None}, NO)
    head = f"{name}  {row['level']}  binds: {row['role']}  observable: {row['observable']}"
    lines = [head, _wrapped(str(row["text"]))]
    if seed := row.get("seed"):
        file, _, line = str(seed).partition(":")
        at = library.seeds.get(file, ())
        known = 0 < int(line or 0) <= len(at)
        quote = f': "{at[int(line) - 1].strip(" -")}"' if known else ""
        lines.append(_wrapped(f"seed {seed}{quote}"))
    return Answer("\n".join(lines), dict(row), find=f"[{name}]")


def _code(library: Library, code: int) -> Answer:
    row = REASONS.get(code)
    if row is None:
        said = f"{code} is not a registered reason code; it is kept and shown as a number"
        return Answer(said, {"code": code, "name": None}, NO)
    names = [
        i for i, r in library.requirements.items() if _mentions(str(r["text"]), code, row.name)
    ]
    lines = [
        f"{code} {row.name}  reason code, value and limit {_unit(row.unit)}",
        f"  sentence    {row.template}",
    ]
    lines += [_wrapped(f"{'required by ' + name:<24} {_text(library, name)}") for name in names]
    value = {
        "code": code,
        "name": row.name,
        "unit": row.unit,
        "sentence": row.template,
        "requirements": names,
    }
    return Answer("\n".join(lines), value, find=row.name)


def _unit(unit: str) -> str:
    return f"in {unit}" if unit else "without unit"


def _mentions(text: str, code: int, name: str) -> bool:
    spoken = re.compile(rf"\b(?:RST|TRIP|ALERT|REASON|code) {code}\b")
    return f"({name})" in text or spoken.search(text) is not None


def _text(library: Library, name: str) -> str:
    return str(library.requirements[name]["text"])


def _named(library: Library, name: str) -> Iterator[Answer]:
    for kind, title in KINDS.items():
        for row in library.registry.get(kind, ()):
            if row["name"] != name:
                continue
            if kind == "reason":
                yield _code(library, int(str(row["value"])))
                continue
            columns = [key for key in row if key not in ("value", "name")]
            lines = [f"{name}  {title} {row['value']}"]
            lines += [_wrapped(f"{key:<10} {row[key]}") for key in columns]
            yield Answer("\n".join(lines), {"kind": kind, **row}, find=name)


def _unknown(library: Library, what: str) -> Answer:
    known = [str(r["name"]) for kind in KINDS for r in library.registry.get(kind, ())]
    near = difflib.get_close_matches(what.upper(), [*known, *(d.upper() for d in DRAFTS)], n=1)
    hint = f", did you mean {near[0]}?" if near else ""
    said = f"nothing is known of {what!r}{hint}"
    return Answer(said, {"what": what}, USAGE)


def _wrapped(text: str) -> str:
    indent = "  "
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent * 2, break_long_words=False
    )


# ---- the command --------------------------------------------------------------------------------


def build_parser() -> Parser:
    """Return the parser of `powertcp explain`."""
    parser = Parser(
        "explain",
        "Say why a flow was refused, shed or tripped; what a requirement, a reason code\n"
        "or a name means; page the drafts.",
        EXAMPLE,
        "WHAT",
    )
    parser.add_argument(
        "what",
        metavar="WHAT",
        help="a flow (HOST:PORT/FLOW, as status shows it; all: flows), a draft (protocol), a "
        "requirement id, a reason code or its name, a segment type, an option or a flag",
    )
    parser.add_argument("--control", default="", metavar="PATH", help="ask this daemon only (all)")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument(
        "--page", action="store_true", help="open the protocol draft there, in $PAGER"
    )
    return parser


def show(answer: Answer, text: str, *, paging: bool) -> None:
    """Print `text`; in a terminal, and when `paging`, through $PAGER at what was asked for."""
    pager = shlex.split(os.environ.get("PAGER", "")) or ["less"]
    if not (paging and sys.stdout.isatty() and shutil.which(pager[0])):
        print(text)
        return
    if answer.find and Path(pager[0]).name == "less":
        pager.append(f"+/{re.escape(answer.find)}")
    subprocess.run(pager, input=text, text=True, check=False)


def main(argv: Sequence[str] | None = None, library: Library | None = None) -> int:
    """Explain one thing; returns the exit status."""
    asked = build_parser().parse_args(argv)
    if asked.what == "flows" or "/" in asked.what:
        from powertcp.cli.flows import explain_flow, is_flow

        if is_flow(asked.what):
            return explain_flow(asked.what, asked.control, as_json=asked.json)
    if library is None:
        library = Library.load(packaged())
    answer = explain(library, asked.what)
    if asked.json:
        print(json.dumps(answer.value))
    elif answer.status:
        print(f"powertcp explain: {answer.text}", file=sys.stderr)
    else:
        draft = asked.what.lower() in DRAFTS
        text = library.drafts.get("protocol", "") if asked.page and not draft else answer.text
        show(answer, text, paging=draft or asked.page)
    return answer.status
