"""The checks of the specification set: each returns findings, none stops at the first."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from powertcp import data
from powertcp.mplamps.power import PrivateType
from powertcp.registry import REASONS, Flag, OptionKind, SegmentType
from powertcp.wire import schema
from tools import rfc_gen
from tools.rfc_set import ID, WITHDRAWN, Draft, Finding, RfcSet, words

LEVELS = {"MUST", "SHOULD"}
ROLES = {"sink", "source", "both", "middlebox", "gateway"}
OBSERVABLE = {"wire", "local"}
KINDS = {"not-observable", "exception", "todo"}
KEY_WORDS = {
    "MUST", "MUST NOT", "REQUIRED", "SHALL", "SHALL NOT", "SHOULD", "SHOULD NOT", "RECOMMENDED",
    "NOT RECOMMENDED", "MAY", "OPTIONAL",
}  # fmt: skip
BARE = re.compile(r"\b(?:MUST|SHALL|SHOULD|MAY|REQUIRED|RECOMMENDED|OPTIONAL)\b")
VERBATIM = {"sourcecode", "artwork"}


def anchors(spec: RfcSet) -> Iterator[Finding]:
    """Anchors are unique in a draft, ids in the set; visible ids equal them; none is unknown."""
    known: set[str] = set()
    for draft in spec.drafts:
        seen: set[str] = set()
        for element in draft.tree.iter():
            anchor = element.get("anchor")
            if anchor is None:
                continue
            if anchor in seen | known:
                yield Finding(draft.place(f'"{anchor}"'), f"anchor {anchor} stands twice")
            seen.add(anchor)
        known |= {anchor for anchor in seen if ID.fullmatch(anchor)}
        yield from _visible(draft)
    for draft in spec.drafts:
        prose = {i for t in draft.tree.iter("t") for i in ID.findall("".join(t.itertext()))}
        for unknown in sorted(prose - known):
            yield Finding(draft.place(unknown), f"{unknown} is named but has no anchor")


def _visible(draft: Draft) -> Iterator[Finding]:
    for paragraph in draft.tree.iter("t"):
        anchor, said = paragraph.get("anchor", ""), words("".join(paragraph.itertext()))
        shown = re.match(r"\[([A-Z]{4}-[^\]]*)\]", said)
        if ID.fullmatch(anchor):
            if shown is None or shown[1] != anchor:
                place = draft.place(f'anchor="{anchor}"')
                yield Finding(place, f"anchor {anchor} shows {shown[1] if shown else 'no id'}")
        elif shown is not None:
            yield Finding(draft.place(shown[0]), f"{shown[0]} has no anchor of that name")


def key_words(spec: RfcSet) -> Iterator[Finding]:
    """BCP 14 words stand in <bcp14>, and <bcp14> only in requirements and in Conventions."""
    for draft in spec.drafts:
        excused = _conventions(draft.tree)
        for paragraph in draft.tree.iter():
            if paragraph in excused or paragraph.tag in VERBATIM | {"bcp14"}:
                continue
            anchored = ID.fullmatch(paragraph.get("anchor", "")) is not None
            for word in paragraph.findall("bcp14"):
                said = words(word.text or "")
                place = _place(draft, paragraph, said)
                if not anchored:
                    yield Finding(place, f"<bcp14>{said} outside a requirement")
                if said not in KEY_WORDS:
                    yield Finding(place, f"{said} is no key word of BCP 14")
            own = (paragraph.text or "") + " " + " ".join(c.tail or "" for c in paragraph)
            if bare := BARE.search(own):
                yield Finding(_place(draft, paragraph, bare[0]), f"{bare[0]} without <bcp14>")


def _conventions(tree: ET.Element) -> set[ET.Element]:
    return {
        inner
        for part in (*tree.iter("note"), *tree.iter("section"))
        if part.findtext("name") == "Conventions"
        for inner in part.iter()
    }


def _place(draft: Draft, paragraph: ET.Element, said: str) -> str:
    anchor = paragraph.get("anchor")
    start = words(paragraph.text or "")[:40]
    return draft.place(f'"{anchor}"' if anchor else start or f">{said}<")


def requirements(spec: RfcSet) -> Iterator[Finding]:
    """requirements.toml has one full table for each id of the drafts, with the same text."""
    texts, listed = spec.texts(), [str(row.get("id")) for row in spec.requirements]
    file = "requirements.toml"
    for twice in sorted({i for i in listed if listed.count(i) > 1}):
        yield Finding(file, f"{twice} stands twice")
    prefixes = {anchor.partition("-")[0] for anchor in texts}
    for row in spec.requirements:
        name = str(row.get("id"))
        yield from _columns(spec, file, row)
        if name in texts:
            if words(str(row.get("text"))) != texts[name]:
                yield Finding(file, f"{name}: text differs from the draft (rfc.py sync)")
            yield from _level(file, row, texts[name])
        elif name.partition("-")[0] in prefixes:
            yield Finding(file, f"{name} is in no draft")
    for name in sorted(set(texts) - set(listed)):
        yield Finding(file, f"{name} is missing (rfc.py sync)")


def _columns(spec: RfcSet, file: str, row: dict[str, Any]) -> Iterator[Finding]:
    name = row.get("id")
    for column, allowed in (("level", LEVELS), ("role", ROLES), ("observable", OBSERVABLE)):
        if row.get(column) not in allowed:
            yield Finding(file, f"{name}: {column} is {row.get(column)!r}, not {sorted(allowed)}")
    if seed := row.get("seed"):
        stem, _, line = str(seed).partition(":")
        path = spec.folder / stem
        if not path.is_file() or not 0 < int(line or 0) <= len(path.read_text().splitlines()):
            yield Finding(file, f"{name}: there is no line {seed}")


def _level(file: str, row: dict[str, Any], text: str) -> Iterator[Finding]:
    if text == WITHDRAWN:
        return
    has = "MUST" if re.search(r"\bMUST\b", text) else "SHOULD" if "SHOULD" in text else "none"
    if has != row.get("level"):
        yield Finding(file, f"{row['id']}: level {row.get('level')}, but the text says {has}")


def exceptions(spec: RfcSet) -> Iterator[Finding]:
    """Each exception names a known id, a kind, a reason and an issue."""
    known = {row.get("id") for row in spec.requirements}
    seen: set[Any] = set()
    for row in spec.exceptions:
        name = row.get("id")
        if name not in known or name in seen:
            yield Finding("exceptions.toml", f"{name} is unknown or stands twice")
        seen.add(name)
        if row.get("kind") not in KINDS:
            yield Finding("exceptions.toml", f"{name}: kind is {row.get('kind')!r}")
        if not row.get("reason") or not isinstance(row.get("issue"), int):
            yield Finding("exceptions.toml", f"{name} needs a reason and an issue number")


def references(spec: RfcSet) -> Iterator[Finding]:
    """Includes exist, cross references have a target, every reference is used."""
    for draft in spec.drafts:
        for href in draft.missing:
            yield Finding(draft.place(f'"{href}"'), f"cannot include {href}")
        targets = {e.get("anchor") for e in draft.tree.iter() if e.get("anchor")}
        used = {x.get("target", "") for x in draft.tree.iter("xref")}
        for target in sorted(used - targets):
            yield Finding(draft.place(f'"{target}"'), f"xref to {target}, which is no anchor")
        listed = {r.get("anchor", "") for r in draft.tree.iter("reference")}
        for name in sorted(listed - used):
            yield Finding(draft.path.name, f"reference {name} is never cited")


def registry(spec: RfcSet) -> Iterator[Finding]:
    """registry.toml holds the same numbers, names and units as the Python enums."""
    reg = spec.registry

    def named(kind: str) -> dict[int, str]:
        return {row["value"]: row["name"] for row in reg.get(kind, ())}

    yield from _same("type", named("type"), {int(t): t.name for t in SegmentType})
    yield from _same("flag", named("flag"), {int(f): str(f.name) for f in Flag})
    yield from _same("option", named("option"), {int(k): k.name for k in OptionKind})
    objects = {int(kind): kind.name for kind in PrivateType}
    yield from _same("private object", named("private_object"), objects)
    reasons = {row["value"]: f"{row['name']} {row['unit']}" for row in reg.get("reason", ())}
    yield from _same("reason", reasons, {c: f"{r.name} {r.unit}" for c, r in REASONS.items()})
    profiles = {row["value"]: f"{row['name']} {row['power']}" for row in reg.get("profile", ())}
    rows: Any = data.load("profiles.toml")["profile"]
    yield from _same("profile", profiles, {r["id"]: f"{r['name']} {r['power']}" for r in rows})
    for kind, found in reg.items():
        if kind not in ("layout", "profile_field"):
            for row in found:
                if not row.get("spec"):
                    yield Finding("registry.toml", f"{kind} {row.get('name')} names no spec")


def _same(kind: str, listed: dict[int, str], coded: dict[int, str]) -> Iterator[Finding]:
    for value in sorted(listed.keys() | coded.keys()):
        if listed.get(value) != coded.get(value):
            said, has = listed.get(value, "nothing"), coded.get(value, "nothing")
            text = f"{kind} {value}: registry says {said.strip()}, the code says {has.strip()}"
            yield Finding("registry.toml", text)


def layouts(spec: RfcSet) -> Iterator[Finding]:
    """Lengths of options and diagrams of payloads are those of powertcp/wire/schema.py."""
    octets = {row["name"]: sum(w for _, w in row["fields"]) // 8 for row in spec.registry["layout"]}
    coded = {"header": schema.HEADER.shortest, "profile": schema.PROFILE.shortest}
    coded |= {"block": schema.BLOCK.shortest, "sampling": schema.OPTIONS[6][1].shortest + 2}
    for name in ("CREDIT", "BLOCKED", "SHED", "MAINTAIN"):
        coded[name.lower()] = schema.TYPES[schema.TYPE_NUMBERS[name]].payload.shortest
    for name, has in coded.items():
        if octets.get(name) != has:
            text = f"layout {name} has {octets.get(name)} octets, the schema {has}"
            yield Finding("registry.toml", text)
    for row in spec.registry["option"]:
        if row["value"] in schema.OPTIONS:
            _, layout = schema.OPTIONS[row["value"]]
            if _span(row["length"]) != (layout.shortest + 2, layout.longest + 2):
                text = f"option {row['name']} is {row['length']} octets long, not so in the schema"
                yield Finding("registry.toml", text)


def _span(length: str) -> tuple[int, int]:
    """Return the least and the greatest length that a row of options states."""
    least, _, rest = length.partition("..")
    if rest:
        return int(least), int(rest)
    if length.endswith("+n"):
        return int(length[:-2]), int(length[:-2]) + schema.MAX_TEXT
    if length.endswith(" or more"):
        return int(length.partition(" ")[0]), 255
    return int(length), int(length)


def readme(spec: RfcSet) -> Iterator[Finding]:
    """README.md counts what there is."""
    said = (spec.folder / "README.md").read_text(encoding="utf-8")
    levels = {row["id"]: row["level"] for row in spec.requirements}
    for draft in spec.drafts:
        names = draft.requirements().keys()
        must, should = (sum(levels.get(n) == level for n in names) for level in ("MUST", "SHOULD"))
        excused = sum(row["id"] in names for row in spec.exceptions)
        prefixes = ", ".join(sorted({name.partition("-")[0] for name in names}))
        stem = draft.path.stem
        row = f"| [{stem}]({stem}.txt) | {prefixes} | {must} | {should} | {excused} |"
        if row not in said:
            yield Finding("README.md", f"should have a row: {row}")


def generated(spec: RfcSet) -> Iterator[Finding]:
    """gen/ holds what `rfc.py gen` makes, and nothing else but state diagrams."""
    made = rfc_gen.generate(spec.folder)
    folder = spec.folder / "gen"
    for name, text in made.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield Finding(f"gen/{name}", "is stale (rfc.py gen)")
    for path in rfc_gen.owned(spec.folder):
        if path.name not in made:
            yield Finding(f"gen/{path.name}", "is made by nobody")


def vectors(spec: RfcSet) -> Iterator[Finding]:
    """Every vector is hex, is included by a draft, and names requirements that exist."""
    included = {path for draft in spec.drafts for path in draft.included}
    known = {row.get("id") for row in spec.requirements}
    top = spec.folder / "vectors"
    for document in sorted(p for p in top.iterdir() if p.is_dir()) if top.is_dir() else ():
        for path in rfc_gen.vector_files(spec.folder, document.name):
            place = path.relative_to(spec.folder).as_posix()
            if Path(os.path.normpath(path)) not in included:
                yield Finding(place, "is included by no draft")
            yield from _one_vector(path, place, known)


def _one_vector(path: Path, place: str, known: set[Any]) -> Iterator[Finding]:
    if path.suffix == ".hex":
        bare = "".join(line.partition(";")[0] for line in path.read_text().splitlines())
        if not re.fullmatch(r"(?:[0-9a-fA-F]{2})*", "".join(bare.split())):
            yield Finding(place, "is not pairs of hexadecimal digits")
    about = path.with_suffix(".json")
    if not about.exists():
        yield Finding(place, f"{about.name} is missing")
        return
    for name in json.loads(about.read_text()).get("requirement", ()):
        if name not in known:
            yield Finding(place, f"{name} is no requirement")


CHECKS: tuple[Callable[[RfcSet], Iterable[Finding]], ...] = (
    anchors, key_words, requirements, exceptions, references, registry, layouts, generated,
    vectors, readme,
)  # fmt: skip


def check(spec: RfcSet) -> list[Finding]:
    """Return what every check finds; an empty set of drafts is a finding, too."""
    found = [] if spec.drafts else [Finding(spec.folder.name, "holds no draft")]
    for one in CHECKS:
        found += one(spec)
    return found


__all__ = ["CHECKS", "check"]
