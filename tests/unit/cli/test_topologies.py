"""`powertcp mplamps topology`: generated, checked and shown as people meet it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from powertcp.cli.main import main
from powertcp.cli.topologies import load_topology
from powertcp.mplamps.generators import generate_topology

Run = Callable[..., tuple[int, str, str]]


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


def test_what_is_generated_is_valid(run: Run, tmp_path: Path) -> None:
    words = ("topology", "generate", "street:3", "--pdp", "--base", "127.80.0.0")
    status, said, _ = run(*words)
    assert status == 0
    path = tmp_path / "street.toml"
    path.write_text(said)
    status, said, _ = run("topology", "check", path)
    assert (status, said) == (
        0,
        f"VALID    {path}: 3 lamps, 1 source, 6 transformers, 1 pdp, 10 links\n",
    )
    assert str(load_topology(str(path)).node("pdp").address) == "127.80.0.11"


def test_a_generator_works_where_a_topology_is_wanted(run: Run) -> None:
    status, said, _ = run("topology", "check", "tree:2,1,1,1,1,1", "ring:3")
    assert status == 0
    assert said == (
        "VALID    tree:2,1,1,1,1,1: 2 lamps, 1 source, 8 transformers, 2 switches, 12 links\n"
        "VALID    ring:3: 3 lamps, 1 source, 6 transformers, 10 links\n"
    )
    assert load_topology("street:2") == generate_topology("street:2")


@pytest.mark.requirement("MPLA-7-01")
def test_each_fault_has_its_place(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('node = [\n  {name = "a", kind = "lamp"},\n  {name = "a", kind = "pdp"},\n]\n')
    status, said, _ = run("topology", "check", path, "street:1")
    assert status == 2
    assert said.splitlines() == [
        f'INVALID  {path}:3:11: a second node is called "a"',
        "VALID    street:1: 1 lamp, 1 source, 4 transformers, 6 links",
    ]
    status, said, _ = run("topology", "check", "--json", path)
    assert status == 2
    assert json.loads(said) == {
        "file": str(path),
        "valid": False,
        "faults": [{"line": 3, "column": 11, "text": 'a second node is called "a"'}],
        "warnings": [],
    }
    status, said, fault = run("topology", "show", path)
    assert (status, said) == (2, "")
    assert fault == f'powertcp mplamps: {path}: line 3, column 11: a second node is called "a"\n'


@pytest.mark.requirement("MPLA-7-01")
def test_octets_that_are_no_text_have_their_place(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# \xc3\xa4\n# \xe4\n")
    status, said, _ = run("topology", "check", path)
    assert (status, said) == (2, f"INVALID  {path}:2:3: it is not UTF-8\n")


@pytest.mark.requirement("MPLA-7-05")
def test_sanity_is_suppressed_on_request(run: Run, tmp_path: Path) -> None:
    _, text, _ = run("topology", "generate", "tree:1,70")
    path = tmp_path / "bright.toml"
    path.write_text(text.replace('voltage = "400V"', 'voltage = "400V", capacity = "4kW"'))
    status, said, _ = run("topology", "check", path)
    assert status == 0
    assert said.splitlines() == [
        f"VALID    {path}: 70 lamps, 1 source, 1 transformer, 71 links",
        f"SANITY   {path}: feeder es1--h1 (400 V) carries 4 kW, the lamps behind it ask for"
        " 4.186 kW",
        f"SANITY   {path}: all lamps ask for 4.186 kW, all sources have 4 kW",
    ]
    status, said, _ = run("topology", "check", "--suppress-sanity", path)
    assert (status, len(said.splitlines())) == (0, 1)


def test_a_topology_is_shown_with_addresses_and_labels(run: Run) -> None:
    status, said, _ = run("topology", "show", "tree:1,1")
    assert status == 0
    assert said == (
        "topology tree, addresses after 10.0.0.0\n"
        "\n"
        "NODE    KIND         ADDRESS   LINKS\n"
        "es1     es           10.0.0.1  1      has 250 kW; supplies 230V/1000A@50Hz\n"
        "h1      transformer  10.0.0.2  2      edge\n"
        "lamp-1  lamp         10.0.0.3  1      asks for 230V/0.26A@50Hz, 59.8 W\n"
        "\n"
        "NO  LINK        VOLTAGE  LABEL  CAPACITY  DELAY\n"
        "1   es1--h1     400 V    400    250 kW    1 ms\n"
        "2   h1--lamp-1  230 V    230    3.68 kW   1 ms\n"
    )


def test_a_topology_is_shown_as_json(run: Run, tmp_path: Path) -> None:
    _, text, _ = run("topology", "generate", "tree:1,1", "--pdp")
    path = tmp_path / "house.toml"
    path.write_text(
        text.replace('kind = "es"', 'kind = "es", provider = "127.0.0.1:3251"').replace(
            'voltage = "230V"',
            'voltage = "230V", rate = "1Mbit/s", loss = 7, metric = 3, fee = "0.01/kWh"',
        )
    )
    status, said, _ = run("topology", "show", path, "--json")
    rows = [json.loads(line) for line in said.splitlines()]
    assert (status, len(rows)) == (0, 6)
    assert rows[0] == {
        "node": "es1",
        "kind": "es",
        "address": "10.0.0.1",
        "links": [1],
        "edge": False,
        "capacity_mw": 250_000_000,
        "supply": "230V/1000A@50Hz",
        "provider": "127.0.0.1:3251",
    }
    assert (rows[2]["request"], rows[2]["request_mw"]) == ("230V/0.26A@50Hz", 59_800)
    assert rows[5] == {
        "link": 2,
        "a": "h1",
        "b": "lamp-1",
        "voltage_mv": 230_000,
        "label": 230,
        "capacity_mw": 3_680_000,
        "rate_bps": 1_000_000,
        "delay_us": 1_000,
        "loss_ppm": 7,
        "metric": 3,
        "fee_micro_per_kwh": 10_000,
    }
    _, said, _ = run("topology", "show", path)
    assert "rate 1,000,000 bit/s; loss 7 ppm; metric 3; fee 10,000 micro/kWh" in said
    assert "provider 127.0.0.1:3251" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "an ACTION is needed: topology"),
        (("topologie",), 'did you mean "topology"?'),
        (("--json", "topology"), 'unknown option "--json"'),
        (("--", "topology"), "topology comes first"),
        (("topology",), "an ACTION is needed: generate, import, check"),
        (("topology", "chek", "x"), 'did you mean "check"?'),
        (("topology", "check"), "check needs a TOPOLOGY"),
        (("topology", "generate", "ring:3", "ring:4"), 'takes 1 word, got "ring:4" as well'),
        (
            ("topology", "check", "ring:3", "--pdp"),
            "--pdp is for generate and import, not for check",
        ),
        (
            ("topology", "show", "ring:3", "--suppress-sanity"),
            "--suppress-sanity is for check, not for show",
        ),
        (("topology", "generate", "rign:3"), 'did you mean "ring"?'),
        (("topology", "generate", "ring:3", "--lamps", "9"), "--lamps is for import, not for"),
        (("topology", "import"), "import needs a grid, such as pandapower:mv_oberrhein"),
        (("topology", "import", "ring:3"), 'topohub:GROUP/NAME[,LAMPS], got "ring:3"'),
        (("topology", "show", "topohub:"), 'topohub:GROUP/NAME[,LAMPS], got "topohub:"'),
        (("topology", "show", "topohub:a,b"), 'topohub:GROUP/NAME[,LAMPS], got "topohub:a,b"'),
        (("topology", "generate", "ring:3", "--base", "10.0.0"), "Expected 4 octets"),
        (("topology", "check", "street:255"), "c1 has 257 neighbours, at most 256"),
    ],
)
def test_wrong_words_are_told_in_one_line(run: Run, words: tuple[str, ...], said: str) -> None:
    status, shown, fault = run(*words)
    assert (status, shown) == (2, "")
    assert said in fault
    assert len(fault.splitlines()) == 1


def test_a_file_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    status, _, fault = run("topology", "show", path)
    assert status == 2
    assert fault == f"powertcp mplamps: cannot read a topology: {path}: No such file or directory\n"


def test_help_shows_an_example_in_the_first_screen(run: Run) -> None:
    for words in (("--help",), ("topology", "--help")):
        status, said, _ = run(*words)
        assert status == 0
        assert "topology generate street:3" in "\n".join(said.splitlines()[:24])


def test_paths_of_lamps_are_shown(run: Run, tmp_path: Path) -> None:
    status, said, _ = run("topology", "paths", "street:2", "--es", "es1")
    assert status == 0
    assert said == (
        "paths to es1, least sum of metrics\n"
        "\n"
        "LAMP    ASKS FOR  METRIC  HOPS  PATH\n"
        "lamp-1  59.8 W    40      4     lamp-1 h1 c1 s1 es1\n"
        "lamp-2  59.8 W    40      4     lamp-2 h2 c1 s1 es1\n"
    )
    _, text, _ = run("topology", "generate", "street:2")
    path = tmp_path / "street.toml"
    fee = 'a = "s1", b = "c1", fee = "0.02/kWh"'
    path.write_text(text.replace('a = "s1", b = "c1"', fee))
    status, said, _ = run("topology", "paths", path, "--metric", "tariff")
    assert (status, said.splitlines()[0]) == (
        0,
        "paths to es1, least sum of fees, in micro-units per kWh",
    )
    assert said.splitlines()[-1] == "lamp-2  59.8 W    0    4     lamp-2 h2 c1 s2 es1"
    status, said, _ = run("topology", "paths", path, "--json")
    assert json.loads(said.splitlines()[0]) == {
        "lamp": "lamp-1",
        "es": "es1",
        "request_mw": 59_800,
        "priority": 4,
        "metric": 40,
        "fee_micro_per_kwh": 20_000,
        "path": ["h1", "c1", "s1", "es1"],
        "links": [7, 5, 3, 1],
    }


def test_a_lamp_without_a_path_is_told(run: Run, tmp_path: Path) -> None:
    _, text, _ = run("topology", "generate", "tree:1,2")
    path = tmp_path / "dim.toml"
    path.write_text(text.replace('b = "lamp-2"', 'b = "lamp-2", capacity = "59W"'))
    status, said, _ = run("topology", "paths", path)
    assert status == 1
    assert said.splitlines()[2:] == [
        "LAMP    ASKS FOR  METRIC  HOPS  PATH",
        "lamp-1  59.8 W    20      2     lamp-1 h1 es1",
        "lamp-2  59.8 W    -       -     none: no path carries that",
    ]
    status, said, _ = run("topology", "paths", path, "--json")
    assert status == 1
    assert json.loads(said.splitlines()[1])["metric"] is None


def test_a_source_is_named_where_there_are_several(run: Run, tmp_path: Path) -> None:
    _, text, _ = run("topology", "generate", "street:1")
    path = tmp_path / "two.toml"
    node = '{name = "es2", kind = "es"},\n'
    link = '{a = "es2", b = "s1", voltage = "110kV"},\n'
    text = text.replace("node = [\n", f"node = [\n  {node}")
    path.write_text(text.replace("link = [\n", f"link = [\n  {link}"))
    status, _, fault = run("topology", "paths", path)
    assert status == 2
    assert fault == (
        "powertcp mplamps: command line: --es: one of the 2 sources of topology street: es2, es1\n"
    )
    status, _, fault = run("topology", "paths", path, "--es", "es3")
    assert status == 2
    assert 'none of the 2 sources of topology street: es2, es1, got "es3"' in fault
    status, said, _ = run("topology", "paths", path, "--es", "es2")
    assert (status, said.splitlines()[-1].split()[-2:]) == (0, ["s1", "es2"])
    status, _, fault = run("topology", "show", path, "--es", "es2")
    assert status == 2
    assert "--es is for paths, not for show" in fault
