"""tools/rfc.py: the set is in order, and each planted fault is found and named."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from powertcp.registry import REASONS
from tools import rfc, rfc_check, rfc_gen, rfc_matrix
from tools.rfc_set import RfcSet

ROOT = Path(__file__).resolve().parents[2]
DRAFT = "draft-powertcp-protocol-00"
Say = pytest.CaptureFixture[str]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A copy of rfc/ to plant faults in."""
    shutil.copytree(ROOT / "rfc", tmp_path / "rfc")
    return tmp_path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of rfc/ for those who mend what they break."""
    root = tmp_path_factory.mktemp("shared")
    shutil.copytree(ROOT / "rfc", root / "rfc")
    return root


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first `old` of a file, which must be there, however its lines are wrapped."""
    pattern = r"\s+".join(map(re.escape, old.split()))
    text, count = re.subn(pattern, lambda _: new, path.read_text(), count=1)
    assert count == 1
    path.write_text(text)


def check(root: Path, rendering: str = "never") -> int:
    return rfc.main(["--root", str(root), "check", "--render", rendering])


def add_vector(root: Path, name: str, octets: str) -> Path:
    """Plant a vector that the draft does not know yet."""
    path = root / "rfc/vectors/protocol" / f"{name}.hex"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(octets + "\n")
    path.with_suffix(".json").write_text(json.dumps({"requirement": ["PTCP-1-05"]}))
    return path


def test_the_committed_set_is_in_order(capsys: Say) -> None:
    assert check(ROOT) == 0, capsys.readouterr().out


def test_every_check_looks_at_something() -> None:
    spec = RfcSet.read(ROOT / "rfc")
    assert len(rfc_check.CHECKS) >= 8
    assert len(spec.requirements) >= 88
    assert len(spec.texts()) == len(spec.requirements)
    assert {len(spec.registry[k]) for k in ("type", "option", "flag")} == {16, 18, 8}
    assert len(spec.registry["reason"]) == len(REASONS)


FAULTS: list[tuple[str, str, str, str]] = [
    (f"{DRAFT}.xml", '<t anchor="PTCP-2.1-03">', "<t>", "[PTCP-2.1-03] has no anchor"),
    (f"{DRAFT}.xml", "[PTCP-2.1-03]", "[PTCP-2.1-04]", "anchor PTCP-2.1-03 shows PTCP-2.1-04"),
    (f"{DRAFT}.xml", 'anchor="PTCP-2.1-04"', 'anchor="PTCP-2.1-03"', "PTCP-2.1-03 stands twice"),
    (
        f"{DRAFT}.xml",
        "Power that is not asked for is an attack.",
        "Power <bcp14>MUST</bcp14> be asked for.",
        "<bcp14>MUST outside a requirement",
    ),
    (f"{DRAFT}.xml", "is an attack.", "MUST be refused.", "MUST without <bcp14>"),
    (f"{DRAFT}.xml", "It <bcp14>MUST NOT</bcp14> resynch", "It resynch", "text differs"),
    (f"{DRAFT}.xml", "It decides nothing", "It (PTCP-4-99) decides nothing", "PTCP-4-99 is named"),
    (f"{DRAFT}.xml", 'target="RFC6335"', 'target="RFC6336"', "RFC6336, which is no anchor"),
    (f"{DRAFT}.xml", "reference.RFC.7693", "reference.RFC.7694", "cannot include"),
    ("requirements.toml", 'id = "PTCP-3.3-02"', 'id = "PTCP-3.3-92"', "PTCP-3.3-02 is missing"),
    ("requirements.toml", 'role = "both"', 'role = "?"', "role is '?'"),
    ("requirements.toml", 'level = "MUST"', 'level = "SHOULD"', "but the text says MUST"),
    ("requirements.toml", "over-tcp.txt:4", "over-tcp.txt:400", "there is no line"),
    ("exceptions.toml", 'id = "PTCP-4-10"', 'id = "PTCP-4-91"', "PTCP-4-91 is unknown"),
    ("exceptions.toml", 'kind = "todo"', 'kind = "later"', "kind is 'later'"),
    ("exceptions.toml", "issue = 2", "", "needs a reason and an issue"),
    ("registry.toml", 'name = "CREDIT"', 'name = "DEBIT"', "type 3: registry says DEBIT"),
    ("registry.toml", 'name = "LIMIT"', 'name = "LIMITS"', "reason 508: registry says LIMITS"),
    ("registry.toml", "value = 130", "value = 131", "option 130: registry says nothing"),
    ("registry.toml", 'name = "METER"\noctets', 'name = "MATTER"\noctets', "private object 4: reg"),
    ("registry.toml", 'power = "9V/3A"', 'power = "9V/4A"', "profile 2: registry says"),
    ("registry.toml", 'length = "18"', 'length = "19"', "option PROFILE is 19 octets long"),
    (
        "registry.toml",
        '["deadline (ms)", 32]',
        '["deadline (ms)", 64]',
        "layout shed has 12 octets",
    ),
    ("README.md", ", PTCP |", ", PTCP | 1", "README.md: should have a row"),
    ("gen/types.xml", "CREDIT", "DEBIT", "gen/types.xml: is stale"),
    ("gen/header.txt", "magic", "Magic", "gen/header.txt: is stale"),
    ("requirements.toml", "[[requirement]]", "[[requirement", "rfc: "),
]


@pytest.mark.parametrize(("file", "old", "new", "said"), FAULTS)
def test_a_planted_fault_is_named(
    shared: Path, capsys: Say, file: str, old: str, new: str, said: str
) -> None:
    path = shared / "rfc" / file
    before = path.read_bytes()
    edit(path, old, new)
    try:
        assert check(shared) == 1
    finally:
        path.write_bytes(before)
    assert said in capsys.readouterr().out


def test_an_id_stands_in_one_draft_only(planted: Path, capsys: Say) -> None:
    edit(planted / "rfc/draft-powertcp-vppn-00.xml", 'anchor="iana"', 'anchor="PTCP-1-05"')
    assert check(planted) == 1
    assert "draft-powertcp-vppn-00.xml:" in (said := capsys.readouterr().out)
    assert "anchor PTCP-1-05 stands twice" in said


def test_the_mended_set_is_in_order_again(shared: Path) -> None:
    assert check(shared) == 0


def test_a_vector_that_no_draft_includes_is_named(planted: Path, capsys: Say) -> None:
    add_vector(planted, "planted", "50 4f")
    assert check(planted) == 1
    assert "vectors/protocol/planted.hex: is included by no draft" in capsys.readouterr().out
    assert rfc.main(["--root", str(planted), "gen"]) == 0
    assert check(planted) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_text("50 4\n"), "is not pairs of hexadecimal digits"),
        (lambda path: path.with_suffix(".json").unlink(), "planted.json is missing"),
        (
            lambda path: path.with_suffix(".json").write_text('{"requirement": ["PTCP-99-01"]}'),
            "PTCP-99-01 is no requirement",
        ),
    ],
)
def test_a_broken_vector_is_named(
    planted: Path, capsys: Say, change: Callable[[Path], object], said: str
) -> None:
    change(add_vector(planted, "planted", "50 4f"))
    assert check(planted) == 1
    assert said in capsys.readouterr().out


def test_one_changed_octet_of_a_vector_makes_the_text_stale(planted: Path, capsys: Say) -> None:
    vector = sorted((planted / "rfc/vectors/protocol").glob("*.hex"))[0]
    octets = vector.read_text()
    vector.write_text(octets[:-2] + ("1" if octets[-2] == "0" else "0") + octets[-1])
    assert check(planted, "always") == 1
    assert f"{DRAFT}.txt: differs from a fresh rendering at @@" in capsys.readouterr().out


def test_a_build_repeats_what_is_committed_octet_by_octet(planted: Path) -> None:
    text, html = planted / "rfc" / f"{DRAFT}.txt", planted / "html" / f"{DRAFT}.html"
    text.unlink()
    assert rfc.main(["--root", str(planted), "build", "--out", str(html.parent)]) == 0
    assert text.read_bytes() == (ROOT / "rfc" / text.name).read_bytes()
    tool, again = rfc.renderer(), planted / "again.html"
    assert tool is not None
    assert rfc.render(tool, planted / "rfc" / f"{DRAFT}.xml", again, "html") is None
    assert again.read_bytes() == html.read_bytes()


def test_gen_check_tells_and_gen_mends(planted: Path, capsys: Say) -> None:
    (planted / "rfc/gen/foreign.xml").write_text("<t/>")
    (planted / "rfc/gen/states-drawn.txt").write_text("made by tools/draw_states.py")
    edit(planted / "rfc/gen/flags.xml", "FIN", "FAN")
    root = ["--root", str(planted)]
    assert rfc.main([*root, "gen", "--check"]) == 1
    assert "gen/flags.xml: is stale" in capsys.readouterr().out
    assert rfc.main([*root, "gen"]) == 0
    assert rfc.main([*root, "gen", "--check"]) == 0
    assert not (planted / "rfc/gen/foreign.xml").exists()
    assert (planted / "rfc/gen/states-drawn.txt").exists()


def test_sync_copies_the_text_and_keeps_the_rest(planted: Path, capsys: Say) -> None:
    draft = planted / "rfc" / f"{DRAFT}.xml"
    edit(draft, "It <bcp14>MUST NOT</bcp14> resynch", "It <bcp14>MUST NOT</bcp14> try to resynch")
    new = '<t anchor="PTCP-2.1-96">[PTCP-2.1-96] It <bcp14>SHOULD</bcp14> "hum".</t>'
    edit(draft, '<section anchor="types">', f'<section anchor="types">{new}')
    assert rfc.main(["--root", str(planted), "sync"]) == 0
    rows = {row["id"]: row for row in RfcSet.read(planted / "rfc").requirements}
    assert rows["PTCP-2.1-03"]["text"].endswith("It MUST NOT try to resynchronise.")
    assert rows["PTCP-2.1-03"]["role"] == "both"
    assert rows["PTCP-2.1-96"] == {
        "id": "PTCP-2.1-96",
        "level": "SHOULD",
        "role": "?",
        "observable": "?",
        "text": 'It SHOULD "hum".',
    }
    assert check(planted) == 1
    assert "PTCP-2.1-96: role is '?'" in capsys.readouterr().out


def test_an_empty_set_is_not_in_order(planted: Path, capsys: Say) -> None:
    for draft in (planted / "rfc").glob("draft-powertcp-*.xml"):
        draft.unlink()
    assert check(planted) == 1
    assert "rfc: holds no draft" in capsys.readouterr().out


# ---- diagrams -----------------------------------------------------------------------------------


def test_a_diagram_shows_every_field_at_its_bits() -> None:
    lines = rfc_gen.diagram([("a", 4), ("b", 12), ("c", 16), ("d", 64)]).splitlines()
    assert lines[2:] == [
        "+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+",
        "|   a   |           b           |               c               |",
        "+-------+-----------------------+-------------------------------+",
        "|                               d                               |",
        "+                                                               +",
        "|                                                               |",
        "+---------------------------------------------------------------+",
    ]


@pytest.mark.parametrize(
    ("name", "octets"),
    [
        ("header", 20),
        ("profile", 16),
        ("block", 16),
        ("credit", 16),
        ("reason", 24),
        ("power-object", 24),
        ("flow-label-object", 12),
        ("tariff-object", 36),
        ("meter-object", 40),
    ],
)
def test_a_layout_has_the_octets_of_the_wire(name: str, octets: int) -> None:
    layouts = {row["name"]: row for row in RfcSet.read(ROOT / "rfc").registry["layout"]}
    assert sum(width for _, width in layouts[name]["fields"]) == 8 * octets


# ---- the matrix ---------------------------------------------------------------------------------


def small_tree(root: Path) -> None:
    """A package that cites one requirement and tests that show two."""
    (root / "powertcp").mkdir()
    (root / "tests").mkdir()
    (root / "powertcp/one.py").write_text("# PTCP-1-01\nx = 'PTCP-1-02'\n")
    (root / "tests/test_one.py").write_text(
        "import pytest\n\n"
        '@pytest.mark.requirement("PTCP-1-01", "PTCP-1-02")\n'
        "def test_it():\n    assert 'PTCP-1-03'\n"
    )


def test_the_matrix_counts_comments_and_marks_only(planted: Path) -> None:
    small_tree(planted)
    rows = {r.name: r for r in rfc_matrix.matrix(planted, RfcSet.read(planted / "rfc"))}
    assert (rows["PTCP-1-01"].code, rows["PTCP-1-01"].tests) == (1, 1)
    assert (rows["PTCP-1-02"].code, rows["PTCP-1-02"].tests) == (0, 1)
    assert (rows["PTCP-1-03"].code, rows["PTCP-1-03"].tests) == (0, 0)
    empty = {name for name, row in rows.items() if row.empty}
    assert {"PTCP-1-02", "PTCP-1-03"} <= empty
    assert not empty & {"PTCP-1-01", "PTCP-4-10", "PTCP-7-08"}


@pytest.mark.parametrize("markdown", [False, True])
def test_the_matrix_fails_on_an_empty_row(planted: Path, capsys: Say, markdown: bool) -> None:
    small_tree(planted)
    job = ["matrix", "--md"] if markdown else ["matrix"]
    assert rfc.main(["--root", str(planted), *job]) == 1
    said = capsys.readouterr().out
    must = [row for row in RfcSet.read(planted / "rfc").requirements if row["level"] == "MUST"]
    assert f"1/{len(must)} MUST in code and tests" in said
    assert ("| PTCP-1-03 | MUST | 0 | 0 | 0 | - |" in said) is markdown


def test_the_matrix_passes_when_each_must_is_shown(planted: Path) -> None:
    small_tree(planted)
    names = [row["id"] for row in RfcSet.read(planted / "rfc").requirements]
    (planted / "powertcp/all.py").write_text("\n".join(f"# {name}" for name in names))
    marks = ", ".join(f'"{name}"' for name in names)
    (planted / "tests/test_all.py").write_text(f"requirement({marks})")
    assert rfc.main(["--root", str(planted), "matrix"]) == 0
