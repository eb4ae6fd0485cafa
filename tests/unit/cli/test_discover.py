"""The words of `powertcp discover`, before anything is looked for."""

import pytest

from powertcp.cli.discover import main
from powertcp.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--watch", "--one"], "not together with --watch"),
        (["--pin", "7f31a2c4", "--why", "--request", "12V/1A"], "not together with --why"),
        (["--why"], "what for?"),
        (["--max-price", "0.20"], "it is about --request"),
        (["--src", "grid"], "it is about --request"),
        (["--timeout", "soon"], "--timeout"),
        (["--timeout", "2h"], "up to 1h"),
        (["--timeout", "0s"], "up to 1h"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        main(words)


def test_a_minimum_follows_its_request(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["--minimum", "5V/1A"])
    assert leaving.value.code == 2
    assert "follows the --request" in capsys.readouterr().err


def test_the_help_shows_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["--help"])
    assert leaving.value.code == 0
    assert "powertcp discover --why --request" in capsys.readouterr().out
