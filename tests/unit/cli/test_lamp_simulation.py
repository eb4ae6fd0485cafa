"""`powertcp mplamps sim` and `storm`, as people and programs meet them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from powertcp.cli.lamp_simulation import SHOWN_LAMPS
from powertcp.cli.main import main
from powertcp.wire.capture import read_capture

Run = Callable[..., tuple[int, str, str]]
MARKET = """currency = "EUR"
default = "any"
supplier = [
  {id = 7, name = "Watt and Sons", sources = ["es1"], capacity = "2MW", prices = [
    {at = "00:00", price = "0.2841/kWh"},
  ]},
]
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def ran(*words: object) -> tuple[int, str, str]:
        try:
            status = main(["mplamps", *map(str, words)])
        except SystemExit as left:
            status = int(str(left.code))
        said = capsys.readouterr()
        return status, said.out, said.err

    return ran


@pytest.fixture
def values(run: Run) -> Callable[..., dict[str, Any]]:
    def ran(*words: object) -> dict[str, Any]:
        status, said, error = run(*words, "--json")
        assert not error, error
        assert status == 0
        found: dict[str, Any] = json.loads(said)
        return found

    return ran


def lasting(found: dict[str, Any]) -> dict[str, Any]:
    """Return what does not depend on the machine."""
    return {key: value for key, value in found.items() if "cpu" not in key}


@pytest.mark.requirement("MPLA-8-01")
def test_one_lamp_twice(values: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.pcapng" for number in (1, 2, 3)]
    first, again, other = (
        values("sim", "tree:1,1,1,1,1", "--capture", path, "--seed", seed)
        for path, seed in zip(paths, (1, 1, 2), strict=True)
    )
    assert first["signalled_ns"] == {"p50": 14_500_000, "p99": 14_500_000, "max": 14_500_000}
    assert first["rro_labels"] == {"lamp-1": [380_000, 110_000, 20_000, 400, 230]}
    assert (first["lamps"], first["signalled"], first["unlit"]) == (1, 1, [])
    # nothing is lit where no power is sent
    assert (first["is_powered"], first["lit"], first["lit_ns"]) == (False, None, None)
    assert first["candles"] == 0.0029
    assert first["first_law_residual_mw"] == 0
    assert lasting(first) == lasting(again)
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()
    assert first["hashes"]["trace"] != other["hashes"]["trace"]
    assert first["hashes"]["labels"] == other["hashes"]["labels"]


def test_each_message_is_a_line_and_then_come_the_tables(run: Run) -> None:
    status, said, _ = run("sim", "tree:1,1,1,1,1")
    assert status == 0
    lines = said.splitlines()
    assert lines[0] == (
        "        0.000000 ms  lamp-1 -> h1            PATH      lamp-1/1  label 230 = 230 V  F 16"
        "  asks for 230V/0.26A@50Hz = 59.8 W"
    )
    assert lines[9] == (
        "       13.500000 ms  h1 -> lamp-1            RESV      lamp-1/1  label 0 = neutral  F 16"
        "  grants 230V/0.26A@50Hz,lease=152s = 59.8 W"
    )
    at = lines.index("h1 (transformer)")
    assert lines[at + 1 : at + 3] == [
        "  0 lamp-1/1 closed c1--h1 0",
        "  400 lamp-1/1 closed h1--lamp-1 230",
    ]
    assert (
        "lamp-1: signalled, 59.8 W, signalled after 14,500,000 ns over"
        " 380000 -> 110000 -> 20000 -> 400 -> 230"
    ) in lines
    assert "1 of 1 lamps signalled (circuit closed), 60 s simulated" in lines


def test_of_more_lamps_only_the_sums_are_told(run: Run) -> None:
    assert "PATH  " in run("sim", f"street:{SHOWN_LAMPS}", "--until", "1s")[1]
    status, said, _ = run("sim", f"street:{SHOWN_LAMPS + 1}", "--until", "1s")
    assert status == 0
    assert "PATH  " not in said
    assert said.splitlines()[1] == "9 of 9 lamps signalled (circuit closed), 1 s simulated"


def test_a_lamp_that_should_be_lit_and_is_not_says_why(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "night.txt"
    path.write_text("0s derate c1--h1 40W\n1s on *\n")
    status, said, _ = run("sim", "street:1", path, "--until", "3s")
    assert status == 1
    assert "lamp-1: dark, refused 100 NO_CAPACITY: " in said
    assert "c1 has 39,790 mW left at priority 4, asked 59,800 mW" in said
    assert "not signalled: lamp-1" in said
    status, said, _ = run("sim", "street:1", path, "--until", "3s", "--json")
    assert status == 1
    assert json.loads(said)["unlit"] == ["lamp-1"]


def test_a_lamp_that_was_switched_off_need_not_be_lit(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "night.txt"
    path.write_text("0s on *\n1s off lamp-1\n")
    status, said, _ = run("sim", "street:2", path, "--until", "3s")
    assert status == 0
    assert "lamp-1: dark, switched off" in said
    assert "1 of 1 lamps signalled" in said


def test_a_storm_has_two_messages_for_each_hop(values: Callable[..., dict[str, Any]]) -> None:
    found = values("storm", "tree:4,2,2,2,3", "--style", "ff")
    lamps = 96
    assert found["messages"] == {"PATH": 5 * lamps, "RESV": 5 * lamps}
    assert found["busiest"] == {"node": "es1", "messages": lamps}
    assert (found["signalled"], found["unlit"]) == (lamps, [])
    assert found["candles"] == found["signalled_ns"]["p99"] / 5_000_000_000
    assert found["signalled_ns"]["max"] == 14_500_000 + (lamps - 1) * 500_000
    reliable = values("storm", "tree:4,2,2,2,3", "--style", "ff", "--reliable")
    assert reliable["messages"]["PATH"] >= 5 * lamps
    assert reliable["messages"]["ACK"] > 0
    assert reliable["hashes"]["labels"] == found["hashes"]["labels"]


def test_a_storm_with_power_ends_when_all_are_lit(values: Callable[..., dict[str, Any]]) -> None:
    found = values("storm", "tree:2,2,2,2,3", "--style", "ff", "--power")
    assert (found["lit"], found["wanted"], found["unlit"]) == (48, 48, [])
    assert found["simulated_ns"] == found["lit_ns"]["max"]
    # TCP and PoTCP take a round of 5 hops each, then a READY and a block
    assert found["lit_ns"]["max"] - found["signalled_ns"]["max"] <= 6 * 5 * 1_000_000
    assert found["energy_uj"]["sent"] == found["energy_uj"]["banked"] > 0
    assert found["first_law_residual_uj"] == 0


def test_a_storm_waits_five_seconds_for_a_block_that_does_not_come(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("powertcp.cli.powered_lamps._Source.take", lambda *_: None)
    status, said, _ = run("storm", "street:2", "--power", "--json")
    found = json.loads(said)
    assert (status, found["signalled"], found["lit"]) == (1, 2, 0)
    assert found["unlit"] == ["lamp-1", "lamp-2"]
    assert found["simulated_ns"] == found["signalled_ns"]["max"] + 5_000_000_000


def test_dusk_may_be_spread(values: Callable[..., dict[str, Any]]) -> None:
    words = ("storm", "tree:4,2,2,2,3", "--spread", "2s")
    found = values(*words)
    # around three spreads, and nobody waits for anybody
    assert 6_000_000_000 < found["simulated_ns"] < 16_000_000_000
    assert found["signalled_ns"]["p50"] < 20_000_000
    assert lasting(values(*words)) == lasting(found)
    assert values(*words, "--seed", 2)["simulated_ns"] != found["simulated_ns"]


def test_files_hold_what_was_sent(values: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    capture, trace = tmp_path / "x.pcapng", tmp_path / "x.sqlog"
    found = values("sim", "street:2", "--capture", capture, "--trace", trace)
    packets = list(read_capture(capture.read_bytes()))
    assert len(packets) == found["messages_sum"]
    assert packets[0].at_ns == 1_017_619_200_000_000_000
    records = [json.loads(line) for line in trace.read_text().split("\x1e")[1:]]
    sent = [record for record in records if record.get("name") == "rsvp:message_sent"]
    assert len(sent) == found["messages_sum"]
    changed = [record for record in records if record.get("name") == "mplamps:lamp_changed"]
    assert [record["data"]["state"] for record in changed] == ["requesting"] * 2 + ["signalled"] * 2


def test_a_policeman_is_asked(run: Run, values: Callable[..., Any], tmp_path: Path) -> None:
    status, said, _ = run("topology", "generate", "street:2", "--pdp")
    street, market = tmp_path / "street.toml", tmp_path / "market.toml"
    street.write_text(said)
    market.write_text(MARKET)
    found = values("sim", street, "--market", market)
    # a lamp without preference asks what there is, and takes it
    assert found["messages"]["PATH_ERR"] == 2
    assert (found["signalled"], found["unlit"]) == (2, [])
    status, _, said = run("sim", street)
    assert status == 2
    assert "the edge LSRs of topology street ask pdp: it needs a market" in said
    status, _, said = run("sim", "street:2", "--market", market)
    assert status == 2
    assert "topology street has no node of kind pdp to ask" in said


@pytest.mark.parametrize(
    ("style", "model"),
    [("se", "overlay"), ("ff", "overlay"), ("wf", "overlay"), ("se", "peer"), ("ff", "peer")],
)
def test_every_style_signals_every_lamp(
    values: Callable[..., dict[str, Any]], style: str, model: str
) -> None:
    found = values("sim", "ladder:3", "--style", style, "--model", model, "--until", "5s")
    assert (found["signalled"], found["unlit"]) == (3, [])
    assert found["first_law_residual_mw"] == 0


@pytest.mark.requirement("MPLA-4.6-01")
def test_kirchhoff_and_rfc_2205_disagree(run: Run, values: Callable[..., dict[str, Any]]) -> None:
    words = ("tree:1,1,12", "--style", "wf", "--until", "3s")
    assert values("sim", *words)["overdraws"] == []
    status, said, _ = run("sim", *words, "--kirchhoff", "max")
    assert status == 0
    assert (
        "first law: violated on session es1/1, chi = 12.0: link es1--c1 holds 59,800 mW and"
        " delivers 717,600 mW"
    ) in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sim",), "TOPOLOGY"),
        (("sim", "tree:0"), "tree:A,B,..,Z takes numbers"),
        (("sim", "street:1", "--seed", "-1"), "-1 is not 0 to"),
        (("sim", "street:1", "--until", "soon"), "a duration needs a number and a unit"),
        (("sim", "street:1", "--until", "0s"), "got 0s"),
        (("sim", "street:1", "--service", "2s"), "got 2s"),
        (("sim", "street:1", "--model", "pear"), 'got "pear", did you mean "peer"'),
        (("sim", "street:1", "--spread", "1s"), 'unknown option "--spread"'),
        (("sim", "street:1", "--style", "wf", "--model", "peer"), "wf"),
        (("storm", "street:1", "--spread", "2h"), "got 2h"),
    ],
)
def test_wrong_words_are_told_in_one_line(run: Run, words: tuple[str, ...], said: str) -> None:
    status, _, error = run(*words)
    assert status == 2
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_lamp_of_a_shared_session_does_not_migrate(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "day"
    script.write_text("0s on *\n1s migrate *\n")
    status, _, error = run("sim", "street:1", script, "--style", "wf")
    assert (status, len(error.splitlines())) == (2, 1)
    assert "--style: a session that all lamps share has no route of its own" in error
    script.write_text("0s on *\n1s migrate * overlay\n")
    assert run("sim", "street:1", script, "--style", "wf", "--until", "3s")[0] == 0


def test_files_that_are_not_there_are_told(run: Run, tmp_path: Path) -> None:
    gone = tmp_path / "nowhere" / "x"
    for words, what in (
        ((gone,), "read a topology"),
        (("street:1", gone), "read a script"),
        (("street:1", "--capture", gone), "write a capture"),
        (("street:1", "--trace", gone), "write a trace"),
    ):
        status, _, error = run("sim", *words)
        assert status == 2
        assert error == f"powertcp mplamps: cannot {what}: {gone}: No such file or directory\n"


def test_a_wrong_script_has_its_place(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "night.txt"
    path.write_text("0s on *\n1s of *\n")
    status, _, error = run("sim", "street:1", path)
    assert status == 2
    assert "line 2, column 4" in error
    path.write_bytes(b"0s on \xff\n")
    status, _, error = run("sim", "street:1", path)
    assert status == 2
    assert "not UTF-8" in error


def test_help_shows_examples_and_every_option(run: Run) -> None:
    for verb in ("sim", "storm"):
        status, said, _ = run(verb, "--help")
        assert status == 0
        assert f"powertcp mplamps {verb} " in said
        for option in ("--until", "--seed", "--model", "--style", "--kirchhoff", "--metric",
                       "--power", "--market", "--refresh", "--hello", "--service",
                       "--suppress-sanity", "--capture", "--trace", "--json"):  # fmt: skip
            assert option in said
    assert "--spread" in run("storm", "--help")[1]
