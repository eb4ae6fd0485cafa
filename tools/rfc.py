"""The specification set in rfc/: gen, build, check, sync, matrix.

`gen` writes tables and diagrams, `build` renders the drafts offline, `check` judges the whole set,
`sync` copies requirement texts from the drafts, `matrix` shows what each requirement rests on.
Exit status: 0 in order, 1 findings, 2 usage, 3 a tool is missing.
"""

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tools import rfc_check, rfc_gen, rfc_matrix
from tools.rfc_set import Draft, Finding, RfcSet

OFFLINE = ("--v3", "--quiet", "--no-network", "--allow-local-file-access")
PREFACE = """\
# Requirements of the specification set, one table per id. `text` is copied from the drafts by
# `python tools/rfc.py sync`; level, role, observable and seed are kept by hand.
# level: MUST | SHOULD. role: sink | source | both | middlebox | gateway. observable: wire | local.
# seed: file:line of the sentence a requirement comes from, where there is one.
"""
COLUMNS = ("id", "level", "role", "observable", "seed", "text")


def renderer() -> str | None:
    """Return the xml2rfc of this environment or of PATH, or None."""
    beside = Path(sys.executable).with_name("xml2rfc")
    return str(beside) if beside.is_file() else shutil.which("xml2rfc")


def render(tool: str, draft: Path, out: Path, form: str) -> Finding | None:
    """Render `draft` into `out` as "text" or "html"; return a finding if xml2rfc complains."""
    run = subprocess.run(
        [tool, *OFFLINE, f"--{form}", "-o", str(out), draft.name],
        cwd=draft.parent,
        env={**os.environ, "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = (run.stderr + run.stdout).strip()
    if run.returncode or "Error" in said or "Warning" in said or not out.is_file():
        return Finding(draft.name, f"xml2rfc: {said or run.returncode}")
    return None


def fresh_text(tool: str, draft: Draft) -> list[Finding]:
    """Compare the committed .txt of `draft` with a fresh rendering."""
    committed = draft.path.with_suffix(".txt")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / committed.name
        if fault := render(tool, draft.path, out, "text"):
            return [fault]
        new = out.read_text(encoding="utf-8").splitlines()
    old = committed.read_text(encoding="utf-8").splitlines() if committed.is_file() else []
    for line in difflib.unified_diff(old, new, lineterm="", n=0):
        if line.startswith("@@"):
            return [Finding(committed.name, f"differs from a fresh rendering at {line} (build)")]
    return []


def run_gen(rfc: Path, *, check: bool) -> int:
    """Write gen/, or with `check` only tell what is stale."""
    folder = rfc / "gen"
    made = rfc_gen.generate(rfc)
    found = {p.name: p.read_text(encoding="utf-8") for p in rfc_gen.owned(rfc)}
    stale = sorted(n for n in made.keys() | found.keys() if made.get(n) != found.get(n))
    for name in stale:
        print(f"gen/{name}: {'is stale' if check else 'written'}")
        if not check:
            folder.mkdir(exist_ok=True)
            (folder / name).unlink(missing_ok=True)
            if name in made:
                (folder / name).write_text(made[name], encoding="utf-8")
    return 1 if check and stale else 0


def run_build(rfc: Path, out: Path) -> int:
    """Render every draft: text beside it, HTML into `out`."""
    tool = renderer()
    if tool is None:
        print("rfc: xml2rfc is not installed (dependency group docs)", file=sys.stderr)
        return 3
    out.mkdir(parents=True, exist_ok=True)
    drafts = sorted(rfc.glob("draft-powertcp-*.xml"))
    faults = []
    for draft in drafts:
        text, html = draft.with_suffix(".txt"), out / f"{draft.stem}.html"
        for form, target in (("text", text), ("html", html)):
            fault = render(tool, draft, target, form)
            faults += [fault] if fault else []
            print(fault or f"{target}: {target.stat().st_size} octets")
    return 1 if faults or not drafts else 0


def run_check(rfc: Path, *, rendering: str) -> int:
    """Print what is wrong with the set; compare the .txt as `rendering` (auto, always, never)."""
    try:
        spec = RfcSet.read(rfc)
    except (OSError, ET.ParseError, tomllib.TOMLDecodeError) as error:
        print(f"{rfc.name}: {error}")
        return 1
    found = rfc_check.check(spec)
    tool = None if rendering == "never" else renderer()
    if tool is None and rendering == "always":
        print("rfc: xml2rfc is not installed (dependency group docs)", file=sys.stderr)
        return 3
    if tool is not None:
        for draft in spec.drafts:
            found += fresh_text(tool, draft)
    for finding in found:
        print(finding)
    compared = "text fresh" if tool else "text not compared, xml2rfc is missing or not wanted"
    drafts, count = len(spec.drafts), len(spec.requirements)
    print(f"rfc: {drafts} drafts, {count} requirements, {len(found)} findings; {compared}")
    return 1 if found else 0


def requirements_toml(spec: RfcSet) -> str:
    """Return requirements.toml with the texts of the drafts; a new id gets the role "?"."""
    texts = spec.texts()
    rows = {str(row["id"]): dict(row) for row in spec.requirements}
    for name, text in texts.items():
        level = "MUST" if re.search(r"\bMUST\b", text) else "SHOULD"
        new = {"id": name, "level": level, "role": "?", "observable": "?"}
        rows.setdefault(name, new)["text"] = text
    out = [PREFACE]
    for row in rows.values():
        lines = [f"{key} = {_quoted(str(row[key]))}" for key in COLUMNS if key in row]
        out.append("[[requirement]]\n" + "\n".join(lines) + "\n")
    return "\n".join(out)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def run_sync(rfc: Path) -> int:
    """Copy the requirement texts of the drafts into requirements.toml."""
    spec = RfcSet.read(rfc)
    path, new = rfc / "requirements.toml", requirements_toml(spec)
    changed = path.read_text(encoding="utf-8") != new
    path.write_text(new, encoding="utf-8")
    print(f"requirements.toml: {'written' if changed else 'unchanged'}")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of this tool."""
    top = argparse.ArgumentParser(prog="rfc.py", description="The specification set in rfc/.")
    top.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    jobs = top.add_subparsers(dest="job", required=True)
    gen = jobs.add_parser("gen", help="write tables, diagrams and the list of vectors")
    gen.add_argument("--check", action="store_true", help="only tell what is stale")
    build = jobs.add_parser("build", help="render text and HTML, offline")
    build.add_argument("--out", type=Path, help="folder of the HTML (default: ROOT/build/rfc)")
    check = jobs.add_parser("check", help="judge the whole set")
    check.add_argument(
        "--render",
        choices=("auto", "always", "never"),
        default="auto",
        help="compare .txt with a fresh rendering (default: if xml2rfc is installed)",
    )
    jobs.add_parser("sync", help="copy requirement texts into requirements.toml")
    matrix = jobs.add_parser("matrix", help="requirement x code, test, case, exception")
    matrix.add_argument("--md", action="store_true", help="as a Markdown table")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one job and return its exit status."""
    asked = parser().parse_args(argv)
    root: Path = asked.root.resolve()
    rfc = root / "rfc"
    match asked.job:
        case "gen":
            return run_gen(rfc, check=asked.check)
        case "build":
            return run_build(rfc, asked.out or root / "build" / "rfc")
        case "check":
            return run_check(rfc, rendering=asked.render)
        case "sync":
            return run_sync(rfc)
        case _:
            rows = rfc_matrix.matrix(root, RfcSet.read(rfc))
            print(rfc_matrix.show(rows, markdown=asked.md))
            return 1 if any(row.empty for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
