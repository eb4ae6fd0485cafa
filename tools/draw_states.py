"""Draw the state tables of potcp/states.py: `rfc/gen/states-*.txt` for readers, `.dot` for Graphviz."""

import argparse
import sys
from pathlib import Path

from powertcp.potcp.states import SINK, SOURCE, Table

ROOT = Path(__file__).resolve().parent.parent
TABLES: dict[str, Table] = {"sink": SINK, "source": SOURCE}


def arrows(table: Table) -> dict[tuple[str, str], list[str]]:
    """Gather the causes of each (state, next state), in the order of the states."""
    found: dict[tuple[str, str], list[str]] = {}
    for (state, cause), (_, after) in table.items():
        found.setdefault((state.name, after.name), []).append(cause.name.lower())
    order = [state.name for state in type(next(iter(table))[0])]
    places = sorted(found, key=lambda pair: (order.index(pair[0]), order.index(pair[1])))
    return {pair: sorted(found[pair]) for pair in places}


def text(table: Table) -> str:
    """Return one line per state and cause: what is done, and the state afterwards."""
    rows = [
        (state.name, cause.name, action, after.name)
        for (state, cause), (action, after) in table.items()
    ]
    order = [state.name for state in type(next(iter(table))[0])]
    rows.sort(key=lambda row: (order.index(row[0]), row[1]))
    lines = [
        f"{state:<12} {cause:<14} {action:<18} {after}" for state, cause, action, after in rows
    ]
    return "\n".join(["state        cause          action             next", *lines]) + "\n"


def dot(name: str, table: Table) -> str:
    """Return the table as a directed graph, one edge per pair of states."""
    lines = [f"digraph {name} {{", "  node [shape=box, fontname=monospace];"]
    for (state, after), causes in arrows(table).items():
        label = "\\n".join(causes)
        lines.append(f'  {state} -> {after} [label="{label}"];')
    return "\n".join([*lines, "}"]) + "\n"


def drawings() -> dict[str, str]:
    """Return the content of each file by its name."""
    return {
        f"states-{name}.{kind}": content
        for name, table in TABLES.items()
        for kind, content in (("txt", text(table)), ("dot", dot(name, table)))
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the drawings, or with `--check` say which are stale; 1 when any is."""
    parser = argparse.ArgumentParser(prog="tools/draw_states.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 when stale")
    parser.add_argument("--folder", type=Path, default=ROOT / "rfc" / "gen", help="where they are")
    options = parser.parse_args(arguments)
    stale = []
    for name, content in drawings().items():
        path = options.folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            stale.append(name)
            if not options.check:
                path.write_text(content, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'stale' if options.check else 'written'}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
