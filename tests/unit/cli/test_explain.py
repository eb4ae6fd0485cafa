"""What `powertcp explain` says, from the set itself (read at collection) and from a small one."""

import json

import pytest

from powertcp.cli import explain
from powertcp.cli.explain import DRAFTS, Library
from powertcp.registry import REASONS, OptionKind, SegmentType

SET = Library.load(explain.packaged())
SMALL = Library(
    requirements={
        "PTCP-1-01": {
            "id": "PTCP-1-01",
            "level": "MUST",
            "role": "both",
            "observable": "wire",
            "seed": "seed.txt:2",
            "text": "A lamp MUST answer RST 508 (LIMIT).",
        }
    },
    registry={
        "type": [{"value": 13, "name": "COOKIE", "payload": "32 octets"}],
        "option": [{"value": 11, "name": "COOKIE", "length": "34"}],
        "reason": [{"value": 508, "name": "LIMIT", "unit": ""}],
    },
    drafts={"protocol": "\n\nPower over TCP\n\n[PTCP-1-01] A lamp\n"},
    seeds={"seed.txt": ["one", "- Power is transmitted."]},
)
Say = pytest.CaptureFixture[str]


def test_a_draft_is_printed_plain_when_piped(capsys: Say) -> None:
    assert explain.main(["protocol"], SMALL) == 0
    assert capsys.readouterr().out == "Power over TCP\n\n[PTCP-1-01] A lamp\n"


def test_a_draft_that_is_not_packaged_is_a_no(capsys: Say) -> None:
    assert explain.main(["vppn"], SMALL) == 1
    said = capsys.readouterr().err
    assert "the draft vppn is not part of this version; there is: protocol" in said
    assert "none" in explain.explain(Library({}, {}, {}), "dpdp").text


def test_a_requirement_shows_whom_it_binds_and_its_seed(capsys: Say) -> None:
    assert explain.main(["ptcp-1-01"], SMALL) == 0
    assert capsys.readouterr().out == (
        "PTCP-1-01  MUST  binds: both  observable: wire\n"
        "  A lamp MUST answer RST 508 (LIMIT).\n"
        '  seed seed.txt:2: "Power is transmitted."\n'
    )


def test_a_seed_that_is_not_packaged_is_named_without_its_sentence() -> None:
    bare = Library(SMALL.requirements, SMALL.registry, SMALL.drafts)
    assert explain.explain(bare, "PTCP-1-01").text.endswith("  seed seed.txt:2")


def test_an_unknown_requirement_is_a_no_and_names_the_nearest(capsys: Say) -> None:
    assert explain.main(["PTCP-1-09"], SMALL) == 1
    said = capsys.readouterr().err
    assert said == "powertcp explain: no requirement PTCP-1-09, did you mean PTCP-1-01?\n"
    assert explain.explain(SMALL, "VPPN-88.7-66").text == "no requirement VPPN-88.7-66"


def test_a_code_shows_unit_sentence_and_the_requirements_that_use_it(capsys: Say) -> None:
    assert explain.main(["508"], SMALL) == 0
    said = capsys.readouterr().out
    assert said.startswith("508 LIMIT  reason code, value and limit without unit\n")
    assert "sentence    {value} is over the limit of {limit}" in said
    assert "required by PTCP-1-01" in said
    assert explain.explain(SMALL, "100").text.startswith(
        "100 NO_CAPACITY  reason code, value and limit in mW"
    )


def test_an_unknown_code_is_kept_as_a_number(capsys: Say) -> None:
    assert explain.main(["4711"], SMALL) == 1
    assert "4711 is not a registered reason code" in capsys.readouterr().err


def test_a_name_with_two_meanings_shows_both(capsys: Say) -> None:
    assert explain.main(["cookie"], SMALL) == 0
    said = capsys.readouterr().out
    assert "COOKIE  segment type 13\n  payload    32 octets" in said
    assert "COOKIE  option 11\n  length     34" in said


def test_the_name_of_a_reason_explains_its_code() -> None:
    assert explain.explain(SMALL, "limit").text == explain.explain(SMALL, "508").text


def test_an_unknown_word_is_a_usage_error_and_names_the_nearest(capsys: Say) -> None:
    assert explain.main(["cokie"], SMALL) == 2
    said = capsys.readouterr().err
    assert said == "powertcp explain: nothing is known of 'cokie', did you mean COOKIE?\n"
    assert explain.explain(SMALL, "????").text == "nothing is known of '????'"


@pytest.mark.parametrize(
    ("what", "status", "key"),
    [("508", 0, "sentence"), ("PTCP-1-01", 0, "text"), ("COOKIE", 0, "found"), ("x", 2, "what")],
)
def test_json_is_one_object(capsys: Say, what: str, status: int, key: str) -> None:
    assert explain.main(["--json", what], SMALL) == status
    out = capsys.readouterr()
    assert key in json.loads(out.out)
    assert out.err == ""


def test_a_terminal_gets_the_pager_at_the_requirement(
    monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    calls: list[tuple[list[str], str]] = []

    def run(command: list[str], *, input: str, text: bool, check: bool) -> None:  # noqa: A002
        calls.append((command, input))

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("powertcp.cli.explain.subprocess.run", run)
    monkeypatch.setattr("powertcp.cli.explain.shutil.which", lambda name: name)
    monkeypatch.setenv("PAGER", "less -R")
    assert explain.main(["--page", "PTCP-1-01"], SMALL) == 0
    assert calls == [(["less", "-R", r"+/\[PTCP\-1\-01\]"], SMALL.drafts["protocol"])]
    monkeypatch.setenv("PAGER", "more")
    assert explain.main(["protocol"], SMALL) == 0
    assert calls[1][0] == ["more"]
    monkeypatch.setattr("powertcp.cli.explain.shutil.which", lambda name: None)
    assert explain.main(["protocol"], SMALL) == 0
    assert len(calls) == 2
    assert "Power over TCP" in capsys.readouterr().out


def test_the_packaged_set_explains_every_name_code_and_requirement() -> None:
    names = [t.name for t in SegmentType] + [k.name for k in OptionKind]
    asked = [*names, *(str(code) for code in REASONS), *SET.requirements]
    assert len(asked) >= 16 + 18 + 55 + 88
    for what in asked:
        answer = explain.explain(SET, what)
        assert answer.status == 0, what
        assert max(map(len, answer.text.splitlines())) <= 100


def test_the_packaged_draft_holds_every_requirement() -> None:
    text = SET.drafts["protocol"]
    assert set(SET.drafts) <= set(DRAFTS)
    for name in SET.requirements:
        if name.startswith("PTCP-"):
            assert f"[{name}]" in text


def test_no_word_is_a_usage_error(capsys: Say) -> None:
    with pytest.raises(SystemExit) as left:
        explain.main([], SMALL)
    assert left.value.code == 2
    assert "required: WHAT" in capsys.readouterr().err
