"""The parser of the commands: one line per error, the nearest word, help that begins with use."""

import pytest

from powertcp.cli.parser import Parser

Say = pytest.CaptureFixture[str]


def parser() -> Parser:
    made = Parser("toast", "Make toast.", "example:\n  powertcp toast --heat 2\n\nexit: 0", "BREAD")
    made.add_argument("--heat", choices=("low", "high"), help="how (low)")
    made.add_argument("--slices", type=int, help="how many (2)")
    made.add_argument("bread", metavar="BREAD", help="what")
    return made


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("x", "--heet", "low"), 'unknown option "--heet", did you mean "--heat"?'),
        (("x", "--heet=low"), 'unknown option "--heet", did you mean "--heat"?'),
        (("x", "--zzz"), 'unknown option "--zzz" ('),
        (("x", "--hea", "low"), 'unknown option "--hea", did you mean "--heat"?'),
        (("x", "y"), 'unknown argument "y" ('),
        (("x", "--heat", "hihg"), '--heat is one of low, high, got "hihg", did you mean "high"?'),
        (("x", "--slices", "two"), "argument --slices: invalid int value: 'two'"),
        ((), "required: BREAD"),
    ],
)
def test_an_error_is_one_line_with_the_nearest_word(
    words: tuple[str, ...], said: str, capsys: Say
) -> None:
    with pytest.raises(SystemExit) as left:
        parser().parse_args(words)
    assert left.value.code == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("powertcp toast: ")
    assert errors.count("\n") == 1
    assert said in errors


def test_help_begins_with_use_purpose_and_example_and_keeps_its_parts() -> None:
    made = parser()
    lines = made.format_help().splitlines()
    assert lines[:5] == [
        "usage: powertcp toast [OPTION]... BREAD",
        "",
        "Make toast.",
        "",
        "example:",
    ]
    assert lines[-1] == "exit: 0"
    assert made.format_help() == made.format_help()
    assert (made.description, (made.epilog or "")[:8]) == ("Make toast.", "example:")


def test_a_parser_without_more_than_an_example_ends_with_its_options() -> None:
    assert Parser("x", "Do.", "example: x").format_help().endswith("exit\n")
