"""The specification set as values: drafts with their includes, requirements, exceptions."""

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from xml.etree import ElementTree as ET

XI_INCLUDE = "{http://www.w3.org/2001/XInclude}include"
ID = re.compile(r"[A-Z]{4}-\d+(?:\.\d+)*-\d\d")
WITHDRAWN = "(withdrawn)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: where, and a sentence."""

    place: str
    text: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.place}: {self.text}"


@dataclass(slots=True)
class Draft:
    """One draft with everything it includes."""

    path: Path
    raw: str
    tree: ET.Element
    included: set[Path] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Parse `path` and resolve its includes. Raises ET.ParseError for bad XML."""
        raw = path.read_text(encoding="utf-8")
        draft = cls(path, raw, ET.fromstring(raw))
        draft._resolve(draft.tree, path.parent)
        return draft

    @property
    def name(self) -> str:
        """The short name: protocol of draft-powertcp-protocol-00."""
        return self.path.stem.removeprefix("draft-powertcp-").rpartition("-")[0]

    def requirements(self) -> dict[str, ET.Element]:
        """Return the paragraphs whose anchor is a requirement id."""
        anchored = ((t.get("anchor", ""), t) for t in self.tree.iter("t"))
        return {anchor: t for anchor, t in anchored if ID.fullmatch(anchor)}

    def place(self, needle: str) -> str:
        """Return "file:line" of the first line that holds `needle`."""
        at = self.raw.find(needle)
        if at < 0:
            return self.path.name
        return f"{self.path.name}:{self.raw.count(chr(10), 0, at) + 1}"

    def _resolve(self, element: ET.Element, folder: Path) -> None:
        for index, child in enumerate(list(element)):
            if child.tag != XI_INCLUDE:
                self._resolve(child, folder)
                continue
            target = Path(os.path.normpath(folder / child.get("href", "")))
            if not target.is_file():
                self.missing.append(child.get("href", ""))
                continue
            self.included.add(target)
            if child.get("parse") == "text":
                continue
            part = ET.fromstring(target.read_text(encoding="utf-8"))
            part.tail = child.tail
            element[index] = part
            self._resolve(part, target.parent)


def words(text: str) -> str:
    """Return `text` with every run of white space as one blank."""
    return " ".join(text.split())


def requirement_text(paragraph: ET.Element) -> str:
    """Return the text of a requirement without its visible id."""
    said = words("".join(paragraph.itertext()))
    return said.removeprefix(f"[{paragraph.get('anchor')}]").strip()


@dataclass(slots=True)
class RfcSet:
    """Everything under rfc/."""

    folder: Path
    drafts: list[Draft]
    requirements: list[dict[str, Any]]
    exceptions: list[dict[str, Any]]
    registry: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read drafts and tables. Raises OSError, ET.ParseError or tomllib.TOMLDecodeError."""

        def rows(name: str, key: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = tomllib.loads(
                (folder / name).read_text(encoding="utf-8")
            ).get(key, [])
            return found

        return cls(
            folder=folder,
            drafts=[Draft.read(path) for path in sorted(folder.glob("draft-powertcp-*.xml"))],
            requirements=rows("requirements.toml", "requirement"),
            exceptions=rows("exceptions.toml", "exception"),
            registry=tomllib.loads((folder / "registry.toml").read_text(encoding="utf-8")),
        )

    def paragraphs(self) -> Iterator[tuple[Draft, str, ET.Element]]:
        """Yield draft, id and paragraph of every requirement."""
        for draft in self.drafts:
            for anchor, paragraph in draft.requirements().items():
                yield draft, anchor, paragraph

    def texts(self) -> dict[str, str]:
        """Return id -> text of every requirement of the drafts."""
        return {anchor: requirement_text(p) for _, anchor, p in self.paragraphs()}
