"""What `powertcp mplamps lsr` and `lamp` refuse before they run, each in one line."""

from pathlib import Path

import pytest

from powertcp.cli.lamp_orders import lamp_lines
from powertcp.cli.lamp_run import LampText, read_limit, read_supplier
from powertcp.cli.main import main
from powertcp.errors import ConfigError
from powertcp.mplamps.power import TariffKind
from tests.drivers.streets import Street

Say = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """See no configuration and no daemon of this user."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "topology: of which network? --topology FILE"),
        (["--topology", "street:3"], "node: which nodes? --node NAME, repeatable, or --all"),
        (["--topology", "street:3", "--node", "x"], 'no node of topology street is called "x"'),
        (["--topology", "street:3", "--node", "lamp-1"], "powertcp mplamps lamp run lamp-1"),
        (["--topology", "street:3", "--all"], "10.0.0.1 is no loopback address"),
        (["--topology", "absent.toml", "--all"], "absent.toml"),
        (["--topology", "street:3", "--all", "--keys", "absent"], "No such file"),
    ],
)
def test_what_cannot_be_switched(words: list[str], said: str, capsys: Say) -> None:
    for more in ([], ["--check"]):
        assert main(["mplamps", "lsr", *words, *more]) == 2
        text = capsys.readouterr().err
        assert said in text
        assert text.count("\n") == 1


def test_a_check_runs_nothing(tmp_path: Path, capsys: Say) -> None:
    street = Street(tmp_path)
    assert main(["mplamps", "lsr", "--topology", str(street.file), "--all", "--check"]) == 0
    assert capsys.readouterr().out == "command line: ok (0 keys)\n"
    street.file.write_text(
        street.file.read_text().replace('kind = "es", ', 'kind = "es", provider = "x:y", ')
    )
    assert main(["mplamps", "lsr", "--topology", str(street.file), "--all", "--check"]) == 2
    assert "x:y" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lamp-9"], 'no node of topology street is called "lamp-9"'),
        (["c1"], "c1 is a transformer, and no lamp"),
        (["lamp-1", "--request", "230V"], "230V"),
        (["lamp-1", "--minimum", "12V/1A"], "is not a lesser power of the kind of"),
        (["lamp-1", "--supplier", "Watt"], "a supplier has a number of 1..4,294,967,295, got Watt"),
        (["lamp-1", "--supplier", "0"], "got 0"),
        (["lamp-1", "--max-price", "cheap"], "a price per kWh is a number"),
        (["lamp-1", "--for", "0s"], "0s ends before it begins"),
        (["lamp-1", "--load", "bogus"], "bogus: no such load"),
        (["lamp-1", "--run", "no-such-command -x"], "--run: no such command: no-such-command"),
        (["lamp-1", "--request", "230V/0A@50Hz"], "230V/0A@50Hz is no power"),
    ],
)
def test_what_no_lamp_can_be_told(words: list[str], said: str, tmp_path: Path, capsys: Say) -> None:
    street = Street(tmp_path)
    plan = ["--topology", str(street.file)]
    if not {"--load", "--run"} & set(words):
        plan += ["--load", "none"]
    assert main(["mplamps", "lamp", "run", *words, *plan]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert text.count("\n") == 1


def test_a_splice_has_no_minimum(tmp_path: Path, capsys: Say) -> None:
    street = Street(tmp_path)
    words = ["lamp-1", "--minimum", "230V/0.1A@50Hz", "--splice", "127.0.0.1:0"]
    assert main(["mplamps", "lamp", "run", *words, "--topology", str(street.file)]) == 2
    assert "without a minimum" in capsys.readouterr().err


def test_a_power_is_read_before_a_lamp_is_looked_for(capsys: Say) -> None:
    assert main(["mplamps", "lamp", "set", "lamp-1", "garbage"]) == 2
    text = capsys.readouterr().err
    assert "garbage" in text
    assert text.count("\n") == 1


def test_the_errors_of_a_lamp_have_its_name(capsys: Say) -> None:
    LampText()("refused", {"sentence": "104 TARIFF: too dear"})
    assert capsys.readouterr().err == "powertcp mplamps lamp: refused 104 TARIFF: too dear\n"


def test_who_is_not_there_takes_no_orders(capsys: Say) -> None:
    assert main(["mplamps", "lamp", "off", "lamp-1"]) == 3
    assert capsys.readouterr().err == "powertcp mplamps lamp: no lamp lamp-1 runs\n"


def test_a_lamp_that_is_still_asking_has_a_line() -> None:
    row = {"tunnel": 1, "state": "requesting", "grant": "", "source": "es1", "lsp": 1}
    spans: dict[str, int | None] = {"signalled_us": None, "lit_us": None}
    [first, second] = lamp_lines("lamp-1", {"state": "requesting", "tunnels": [row | spans]})
    assert first == "lamp-1: requesting"
    assert second == "  tunnel 1: requesting, nothing from es1, LSP 1"
    spans["signalled_us"] = 2500
    assert lamp_lines("lamp-1", {"tunnels": [row | spans]})[1].endswith("signalled after 2.5 ms")
    spans["lit_us"] = 31_000
    assert lamp_lines("lamp-1", {"tunnels": [row | spans]})[1].endswith(", lit after 31.0 ms")


def test_a_price_and_a_supplier_are_read() -> None:
    assert read_limit("") is None
    limit = read_limit("0.30")
    assert limit is not None
    assert (limit.kind, limit.price, limit.currency) == (TariffKind.LIMIT, 300_000, "EUR")
    limit = read_limit("0.05CHF")
    assert limit is not None
    assert (limit.price, limit.currency) == (50_000, "CHF")
    assert (read_supplier(""), read_supplier("7")) == (0, 7)
    with pytest.raises(ConfigError):
        read_supplier("4294967296")
