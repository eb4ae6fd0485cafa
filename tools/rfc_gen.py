"""What the drafts include but nobody types: tables, packet diagrams and the list of test vectors."""

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from powertcp.registry import REASONS
from powertcp.wire import schema

XI = 'xmlns:xi="http://www.w3.org/2001/XInclude"'
HEAD = "<!-- made by tools/rfc.py gen -->"
ROW_BITS = 32
RULER = (
    " 0                   1                   2                   3\n"
    " 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1\n"
)
Row = Mapping[str, Any]


def diagram(fields: Sequence[tuple[str, int]]) -> str:
    """Return the packet diagram of `fields` (name, width in bits), 32 bits a row.

    Raises ValueError when a field crosses the end of a row without starting a row of its own.
    """
    rows = _bit_rows(fields)
    lines: list[str] = []
    above: set[int] = set(range(ROW_BITS + 1))
    joined = False
    for cells, continued in rows:
        edges = _edges(cells)
        lines.append(_rule(edges | above, blank=joined))
        lines.append(_cells(cells))
        above, joined = edges, continued
    lines.append(_rule(above, blank=False))
    return RULER + "\n".join(lines) + "\n"


def _bit_rows(fields: Sequence[tuple[str, int]]) -> list[tuple[list[tuple[str, int]], bool]]:
    """Return rows of cells; the flag says that the last cell goes on in the next row."""
    rows: list[tuple[list[tuple[str, int]], bool]] = []
    row: list[tuple[str, int]] = []
    free = ROW_BITS
    for name, width in fields:
        left, shown = width, name
        while left:
            part = min(left, free)
            row.append((shown, part))
            left, free, shown = left - part, free - part, "" if part * 2 > len(name) else name
            if not free:
                rows.append((row, left > 0 and part == ROW_BITS))
                row, free = [], ROW_BITS
    if row:
        rows.append((row, False))
    return rows


def _edges(cells: Iterable[tuple[str, int]]) -> set[int]:
    at, edges = 0, {0}
    for _, width in cells:
        at += width
        edges.add(at)
    return edges


def _rule(edges: set[int], *, blank: bool) -> str:
    if blank:
        return "+" + " " * (2 * ROW_BITS - 1) + "+"
    last = max(edges)
    return "".join("+" if at % 2 == 0 and at // 2 in edges else "-" for at in range(2 * last + 1))


def _cells(cells: Iterable[tuple[str, int]]) -> str:
    return (
        "|" + "|".join(name[: 2 * width - 1].center(2 * width - 1) for name, width in cells) + "|"
    )


def table(anchor: str, title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return one RFCXML table; empty cells are written as "-"."""
    out = [HEAD, f"<table anchor={quoteattr(anchor)}>", f"  <name>{escape(title)}</name>"]
    out += ["  <thead>", _row("th", head), "  </thead>", "  <tbody>"]
    out += [_row("td", row) for row in rows]
    out += ["  </tbody>", "</table>"]
    return "\n".join(out) + "\n"


def _row(cell: str, texts: Sequence[str]) -> str:
    return "    <tr>" + "".join(f"<{cell}>{escape(t) or '-'}</{cell}>" for t in texts) + "</tr>"


def _flags(registry: Row) -> str:
    rows = [(f"0x{r['value']:02x}", r["name"], r["use"]) for r in registry["flag"]]
    return table("flag-table", "Flags", ("Value", "Name", "Use"), rows)


def _types(registry: Row) -> str:
    rows = [
        (f"0x{r['value']:02x}", r["name"], r["direction"], r["flags"], r["payload"], r["options"])
        for r in registry["type"]
    ]
    head = ("No", "Type", "Sent by", "Flags", "Payload", "Options that may appear")
    return table("type-table", "Types of segments", head, rows)


def _options(registry: Row) -> str:
    rows = [(str(r["value"]), r["name"], r["length"], r["layout"]) for r in registry["option"]]
    return table("option-table", "Options", ("Kind", "Name", "Length", "Value"), rows)


def _reasons(registry: Row) -> str:
    rows = [
        (str(r["value"]), r["name"], r["unit"], REASONS[r["value"]].template)
        for r in registry["reason"]
        if r["value"] in REASONS
    ]
    return table("reason-table", "Reason codes", ("Code", "Name", "Unit", "Sentence"), rows)


def _profiles(registry: Row) -> str:
    rows = [(str(r["value"]), r["name"], r["power"], r["use"]) for r in registry["profile"]]
    return table("profile-ids", "Profile ids", ("Id", "Name", "Power", "Use"), rows)


def _profile_fields(registry: Row) -> str:
    rows = [(r["octet"], r["bits"], r["name"], r["meaning"]) for r in registry["profile_field"]]
    head = ("Octet", "Bits", "Field", "Meaning")
    return table("profile-table", "Fields of a power profile", head, rows)


def _ports(registry: Row) -> str:
    rows = [(f"{r['transport']} port", str(r["value"]), r["use"]) for r in registry["port"]]
    rows += [("group", r["value"], r["use"]) for r in registry["address"]]
    rows += [("ExID", f"0x{r['value']:04x}", r["use"]) for r in registry["exid"]]
    return table("port-table", "Ports, groups and experiments", ("What", "Value", "Use"), rows)


def _private_objects(registry: Row) -> str:
    rows = [
        (str(r["value"]), r["name"], r["octets"], r["layout"]) for r in registry["private_object"]
    ]
    head = ("C-Type", "Object", "Octets", "After the header of the object")
    return table("private-objects", "Private objects of class 252", head, rows)


def _receipt_fields(registry: Row) -> str:
    """Return the table of a page, from its layout: nothing of it stands in the registry."""
    rows, at = [], 0
    for field in schema.RECEIPT.struct.subcons:
        octets = int(field.sizeof())
        name = field.name.replace("_", " ")
        rows.append((str(at), str(octets), name, field.docs))
        at += octets
    head = ("Offset", "Octets", "Field", "Meaning")
    return table("receipt-table", "One page of a receipt", head, rows)


TABLES: dict[str, Callable[[Row], str]] = {
    "flags.xml": _flags,
    "types.xml": _types,
    "options.xml": _options,
    "reasons.xml": _reasons,
    "profile-ids.xml": _profiles,
    "profile-fields.xml": _profile_fields,
    "ports.xml": _ports,
    "private-objects.xml": _private_objects,
    "receipt-fields.xml": _receipt_fields,
}


def vector_files(rfc: Path, document: str) -> list[Path]:
    """Return the files of `document` that hold octets: .hex, and .json of streams, sorted."""
    folder = rfc / "vectors" / document
    found = sorted(folder.rglob("*.hex"))
    alone = [j for j in sorted(folder.rglob("*.json")) if not j.with_suffix(".hex").exists()]
    return found + alone


RSVP_CODES = (
    " A code below 500 is that of the error of RSVP with which the message is answered; for one from"
    " 500 on it is dropped."
)


def vectors(rfc: Path, document: str, more: str = "") -> str:
    """Return the appendix that includes every vector of `document`; more: said of all of them."""
    out = [HEAD, f'<section anchor="vectors" {XI}>', "  <name>Test vectors</name>"]
    out += [
        "  <t>Each vector is a list of pairs of hexadecimal digits; what follows a semicolon is a "
        "comment. A vector to be rejected names the reason code and, where it matters, the value "
        f"with which a receiver answers.{escape(more)}</t>"
    ]
    files = vector_files(rfc, document)
    groups = {
        "Vectors to be accepted": [f for f in files if f.suffix == ".hex" and not _bad(f)],
        "Vectors to be rejected": [f for f in files if f.suffix == ".hex" and _bad(f)],
        "Streams": [f for f in files if f.suffix == ".json"],
    }
    for title, members in groups.items():
        if members:
            out += ["  <section>", f"    <name>{title}</name>"]
            for path in members:
                out += _vector(rfc, path)
            out.append("  </section>")
    out.append("</section>")
    return "\n".join(out) + "\n"


def _bad(path: Path) -> bool:
    return path.parent.name == "bad"


def _vector(rfc: Path, path: Path) -> list[str]:
    about = path.with_suffix(".json")
    said = json.loads(about.read_text()) if about.exists() else {}
    text = ", ".join(said.get("requirement", ()))
    if "reject" in said:
        text += f"; reject with {said['reject']}"
        text += f", value {said['value']}" if "value" in said else ""
        text += f", field {said['field']}" if "field" in said else ""
    kind = "hex" if path.suffix == ".hex" else "json"
    href = quoteattr(f"../{path.relative_to(rfc).as_posix()}")
    return [
        f'    <t keepWithNext="true">{escape(path.stem)}{escape(f" ({text})" if text else "")}:</t>',
        f'    <sourcecode type="{kind}"><xi:include href={href} parse="text"/></sourcecode>',
    ]


def owned(rfc: Path) -> list[Path]:
    """Return the files of gen/ but the state diagrams, which tools/draw_states.py makes."""
    return sorted(p for p in (rfc / "gen").glob("*") if not p.name.startswith("states-"))


def generate(rfc: Path) -> dict[str, str]:
    """Return name -> text of everything that belongs into gen/."""
    registry = tomllib.loads((rfc / "registry.toml").read_text())
    made = {name: make(registry) for name, make in TABLES.items()}
    for layout in registry["layout"]:
        made[f"{layout['name']}.txt"] = diagram([(n, w) for n, w in layout["fields"]])
    made["vectors.xml"] = vectors(rfc, "protocol")
    made["vectors-dpdp.xml"] = vectors(rfc, "dpdp")
    made["vectors-mplamps.xml"] = vectors(rfc, "mplamps", RSVP_CODES)
    return made
