"""The words of `powertcp mplamps lsr` and `lamp`, before anything is run."""

import pytest

from powertcp.cli import mplamps_lamp, mplamps_lsr
from powertcp.cli.main import main

Say = pytest.CaptureFixture[str]


def test_help_has_examples_first(capsys: Say) -> None:
    for verb in ("lsr", "lamp"):
        assert main(["mplamps", verb, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: powertcp mplamps {verb} [OPTION]...")
        assert f"  powertcp mplamps {verb}" in text.splitlines()[5]
        assert "exit status: 0 done" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "an ACTION is needed: run, on, off, set, migrate, status"),
        (["light", "lamp-1"], "ACTION is one of run, on, off, set, migrate, status"),
        (["on"], "the following arguments are required: NAME"),
        (["run", "lamp-1", "--load", "lamp"], "run needs --topology FILE"),
        (["run", "lamp-1", "--topology", "x"], "run needs one of --load, --run and --splice"),
        (
            ["run", "lamp-1", "--topology", "x", "--load", "lamp", "--splice", "y"],
            "run needs one of --load, --run and --splice",
        ),
        (["run", "lamp-1", "word", "--topology", "x", "--load", "lamp"], "run takes nothing more"),
        (["set", "lamp-1"], "set takes a PROFILE, such as 230V/1A@50Hz after the name"),
        (["migrate", "lamp-1"], "migrate takes a MODEL: overlay or peer after the name"),
        (["migrate", "lamp-1", "loose"], 'a model is overlay or peer, got "loose"'),
        (["off", "lamp-1", "--topology", "x"], "--topology is for run, not for off"),
        (["status", "lamp-1", "--for", "1s"], "--for is for run, not for status"),
        (["status", "lamp-1", "--sorce", "1"], 'unknown option "--sorce"'),
    ],
)
def test_wrong_words_of_a_lamp_are_said_in_one_line(
    words: list[str], said: str, capsys: Say
) -> None:
    assert main(["mplamps", "lamp", *words]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert text.count("\n") == 1


def test_each_action_says_what_it_takes() -> None:
    parser = mplamps_lamp.build_parser()
    for action, count in mplamps_lamp.ACTIONS.items():
        words = parser.parse_action([action, "lamp-1", *["x"] * count], mplamps_lamp.ACTIONS)
        assert (words.action, words.name, len(words.words)) == (action, "lamp-1", count)


def test_nodes_may_be_named_more_than_once() -> None:
    parsed = mplamps_lsr.build_parser().parse_args(["--node", "s1", "--node", "s2"])
    assert (parsed.node, parsed.all) == (["s1", "s2"], None)
