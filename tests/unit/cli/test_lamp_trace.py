"""`powertcp mplamps trace` as people meet it: ladders, reasons, and files that are none."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from powertcp.cli.lamp_trace import DONE, NO
from powertcp.cli.main import main
from powertcp.mplamps import rsvp
from powertcp.wire.trace import event, opening
from tests.cops_messages import MESSAGES as POLICED
from tests.lamp_captures import DUSK_NS, TOPOLOGY, Capture, path, refused

Run = Callable[..., tuple[int, str, str]]
SAID = (
    "refused 100 NO_CAPACITY: link c1--h1 (400 V) has 9,890 mW left at priority 4, asked 59,800 mW"
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def ran(*words: object) -> tuple[int, str, str]:
        try:
            status = main(["mplamps", "trace", *map(str, words)])
        except SystemExit as left:
            status = int(str(left.code))
        said = capsys.readouterr()
        return status, said.out, said.err

    return ran


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A lamp that is granted and one that is refused, a policeman, two labelled packets."""
    capture = Capture()
    capture.police("h1", "pdp", POLICED["open"])
    capture.switch_on("lamp-1")
    capture.labelled("lamp-1", "h1")
    capture.labelled("h1", "c1")
    capture.refuse("lamp-2")
    found = tmp_path / "small.pcapng"
    found.write_bytes(capture.octets())
    return found


def test_every_message_is_a_line(run: Run, file: Path) -> None:
    status, said, wrong = run(file)
    lines = said.splitlines()
    assert (status, wrong, len(lines)) == (DONE, "", 1 + 8 + 4 + 2)
    assert lines[0] == ("        0.000000 ms  h1 -> pdp               OPN       PEP 10.0.0.4")
    assert lines[1].startswith(
        "        1.000000 ms  lamp-1 -> h1            PATH      lamp-1/1  label 230 = 230 V  F 16  asks for"
    )
    assert lines[8].startswith("        8.000000 ms  h1 -> lamp-1            RESV      lamp-1/1")
    assert lines[-3].endswith(f"h1 -> lamp-2            PathErr   lamp-2/1; {SAID}")
    assert lines[-1] == ("13 lines: 6 PATH, 4 RESV, 2 PathErr, 1 OPN; 2 labelled packets, 0 others")


@pytest.mark.parametrize("lamp", ["lamp-2", "10.0.0.6"])
def test_what_was_said_about_one_lamp(run: Run, file: Path, lamp: str) -> None:
    status, said, _ = run(file, "--lamp", lamp)
    assert status == 0
    assert [line.split()[5] for line in said.splitlines()[:-2]] == ["PATH"] * 2 + ["PathErr"] * 2


def test_about_a_lamp_that_nobody_knows_nothing_is_said(run: Run, file: Path) -> None:
    status, said, _ = run(file, "--lamp", "lamp-9")
    assert (status, said) == (1, "\n0 lines; 2 labelled packets, 0 others\n")
    status, said, _ = run(file, "--lamp", "lamp-9", "--why")
    assert (status, said) == (1, "nothing is said about lamp-9\n")
    status, said, wrong = run(file, "--lamp", "lamp-9", "--topology", "street:1")
    assert (status, said) == (2, "")
    assert 'no node of topology street, got "lamp-9", did you mean "lamp-1"?' in wrong


def test_json_is_an_object_a_line(run: Run, file: Path) -> None:
    status, said, _ = run(file, "--json")
    rows = [json.loads(line) for line in said.splitlines()]
    assert (status, len(rows)) == (0, 13)
    assert rows[1]["at_ns"] == DUSK_NS + 1_000_000
    assert rows[1]["circuits"][0]["request_mw"] == 59_800
    assert rows[-1]["error"]["reason"] == 100


@pytest.mark.requirement("MPLA-4.8-01")
def test_why_a_lamp_is_dark(run: Run, file: Path, tmp_path: Path) -> None:
    status, said, _ = run(file, "--why")
    assert status == NO
    assert said == f"lamp-2        dark      13.000000 ms  {SAID}\n1 of 2 lamps dark\n"
    status, said, _ = run(file, "--why", "--lamp", "lamp-1")
    assert (status, said) == (
        0, "lamp-1        on         8.000000 ms  granted\n0 of 1 lamp dark\n"
    )  # fmt: skip
    (tmp_path / "small.toml").write_text(TOPOLOGY)
    words = (file, "--why", "--topology", tmp_path / "small.toml", "--json")
    (row,) = [json.loads(line) for line in run(*words)[1].splitlines()]
    assert (row["lamp"], row["node"], row["asked_mw"], row["left_mw"]) == (
        "lamp-2", "c1", 59_800, 9_890
    )  # fmt: skip


def test_a_lamp_of_the_topology_may_never_have_asked(run: Run, tmp_path: Path) -> None:
    capture = Capture()
    capture.switch_on("lamp-1")
    found, plan = tmp_path / "one.pcapng", tmp_path / "small.toml"
    found.write_bytes(capture.octets())
    plan.write_text(TOPOLOGY)
    assert run(found, "--why")[:2] == (0, "0 of 1 lamp dark\n")
    status, said, _ = run(found, "--why", "--topology", plan)
    assert status == 1
    assert said.splitlines()[0].split() == [
        "lamp-2",
        "dark",
        "it",
        "never",
        "asked:",
        "there",
        "is",
        "no",
        "PATH",
        "of",
        "it",
    ]


def test_where_nobody_asks_there_is_nothing_to_judge(run: Run, tmp_path: Path) -> None:
    found = tmp_path / "none.pcapng"
    found.write_bytes(Capture().octets())
    assert run(found)[:2] == (0, "\n0 lines; 0 labelled packets, 0 others\n")
    assert run(found, "--why")[:2] == (
        1,
        "nothing is said about any lamp: no PATH among 0 messages, no change of a lamp among"
        " 0 events; a capture (--capture) has the messages\n",
    )


def test_what_keeps_neighbours_alive_is_shown_when_all_is_wanted(run: Run, tmp_path: Path) -> None:
    hello = rsvp.encode_message(rsvp.Hello(source=1, destination=2, is_ack=False)).hex()
    rows = [opening("1", "lsr", 0)] + [
        event(at, "rsvp:message_sent", {"node": "h1", "to": "c1", "hex": hello}) for at in (1, 2)
    ]
    found = tmp_path / "h1.sqlog"
    found.write_bytes(b"".join(rows))
    said = run(found)[1].splitlines()
    assert said[-1].startswith("0 lines; 2 Hello, Srefresh and Ack left out (--all)")
    assert len(said) == 2
    assert [" Hello " in line for line in run(found, "--all")[1].splitlines()[:2]] == [True] * 2
    assert len(run(found, "--json")[1].splitlines()) == 2
    assert "no PATH among 2 messages" in run(found, "--why")[1]


def test_a_trace_is_read_as_a_capture_is(run: Run, tmp_path: Path) -> None:
    def sent(at_ms: int, source: str, target: str, message: rsvp.Sendable) -> bytes:
        octets = rsvp.encode_message(message)
        data = {"node": source, "to": target, "hex": octets.hex()}
        return event(at_ms * 10**6, "rsvp:message_sent", data)

    told = {"node": "lamp-2", "tunnel": 1, "state": "dark", "code": 100}
    octets = b"".join((
        opening("1", "network", DUSK_NS // 10**6),
        sent(0, "lamp-2", "h1", path("lamp-2", "lamp-2", "h1")),
        sent(1, "c1", "h1", refused("lamp-2", "c1")),
        event(2 * 10**6, "mplamps:lamp_changed", told),
    ))  # fmt: skip
    found = tmp_path / "small.sqlog"
    found.write_bytes(octets)
    status, said, _ = run(found)
    lines = said.splitlines()
    assert (status, len(lines)) == (0, 5)
    assert "lamp-2 -> h1            PATH      lamp-2/1" in lines[0]
    assert "mplamps:lamp_changed  tunnel 1, state dark, code 100" in lines[2]
    rows = [json.loads(line) for line in run(found, "--json", "--lamp", "lamp-2")[1].splitlines()]
    assert rows[2] == {"at_ns": DUSK_NS + 2 * 10**6, "event": "mplamps:lamp_changed", "data": told}
    (tmp_path / "small.toml").write_text(TOPOLOGY)
    status, said, _ = run(found, "--why", "--topology", tmp_path / "small.toml", "--lamp", "lamp-2")
    assert status == 1
    assert SAID in said


def test_a_cut_file_shows_what_is_there_and_one_error(run: Run, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])
    status, said, wrong = run(file)
    assert (status, len(said.splitlines())) == (2, 12)
    assert wrong.count("\n") == 1
    assert f"{file}: octet " in wrong
    assert "the capture ends within a block of" in wrong
    status, said, again = run(file, "--why")
    assert (status, said, again) == (2, "", wrong)


@pytest.mark.parametrize(
    ("octets", "said"),
    [(b"", "neither a capture"), (b"\x7fELF", "neither a capture"), (b"{]\n", "line 1: no JSON")],
)
def test_a_foreign_file_is_one_error(run: Run, tmp_path: Path, octets: bytes, said: str) -> None:
    found = tmp_path / "foreign"
    found.write_bytes(octets)
    status, out, wrong = run(found)
    assert (status, out, wrong.count("\n")) == (2, "", 1)
    assert said in wrong


def test_a_file_that_is_not_there_is_one_error(run: Run, tmp_path: Path) -> None:
    status, out, wrong = run(tmp_path / "none")
    assert (status, out) == (2, "")
    assert wrong == (
        f"powertcp mplamps: cannot read it: {tmp_path / 'none'}: No such file or directory\n"
    )
    assert "Is a directory" in run(tmp_path)[2]


def test_help_has_an_example_and_words_are_checked(run: Run) -> None:
    status, said, _ = run("--help")
    assert status == 0
    assert "powertcp mplamps trace street.pcapng --why" in said.split("positional")[0]
    assert run("--lamb", "x")[0] == 2
    assert run()[0] == 2


def test_numbers_of_an_error_are_those_of_the_message(run: Run, tmp_path: Path) -> None:
    capture = Capture()
    capture.say("lamp-1", "h1", path("lamp-1", "lamp-1", "h1"))
    capture.say("h1", "lamp-1", replace(refused("lamp-1", "h1", 2, 0), power=None))
    found = tmp_path / "no.pcapng"
    found.write_bytes(capture.octets())
    (row,) = [json.loads(line) for line in run(found, "--why", "--json")[1].splitlines()]
    assert (row["reason"], "asked_mw" in row) == (206, False)
