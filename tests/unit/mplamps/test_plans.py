"""The document of a topology: read, written, and refused with line and column."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.plans import (
    MAX_CHARACTERS,
    MAX_TOLD,
    InvalidPlan,
    format_topology,
    parse_topology,
)
from powertcp.mplamps.topology import Draft, NodeKind, Topology, find_faults
from powertcp.profile import PowerProfile

STREET = """topology = {name = "street", base = "127.80.0.0"}
node = [
  {name = "es1", kind = "es", capacity = "1MW", supply = "230V/1kA@50Hz", provider = "[::1]:3251"},
  {name = "s1", kind = "transformer"},
  {name = "lamp-1", kind = "lamp", request = "230V/1A@50Hz"},
  {name = "pdp", kind = "pdp"},
]
[[link]]
a = "es1"
b = "s1"
voltage = "110kV"
[[link]]
a = "s1"
b = "lamp-1"
voltage = "230V"
capacity = "100W"
rate = "64kbit/s"
delay = "30us"
loss = 5
metric = 7
fee = "0.0100/kWh"
"""


def faults(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(InvalidPlan) as caught:
        parse_topology(text, "street.toml")
    return [(fault.line, fault.column, fault.text) for fault in caught.value.faults]


def test_every_key_of_a_document() -> None:
    topology = parse_topology(STREET, "street.toml")
    assert (topology.name, topology.base) == ("street", IPv4Address("127.80.0.0"))
    source, _, lamp, _ = topology.nodes
    assert (source.capacity_mw, source.provider) == (10**9, "[::1]:3251")
    assert source.supply == PowerProfile.parse("230V/1kA@50Hz")
    assert lamp.request == PowerProfile.parse("230V/1A@50Hz")
    first, second = topology.links
    assert (first.voltage_mv, first.capacity_mw, first.rate_bps) == (110_000_000, 10**11, None)
    assert (second.capacity_mw, second.rate_bps, second.delay_ns) == (100_000, 64_000, 30_000)
    assert (second.loss_ppm, second.metric, second.fee) == (5, 7, 10_000)
    assert {type(value) for value in (first.voltage_mv, second.delay_ns, second.fee)} == {int}


def test_a_document_of_defaults_is_short() -> None:
    topology = generate_topology("tree:1,1", has_pdp=True)
    assert format_topology(topology) == (
        'topology = {name = "tree"}\n'
        "node = [\n"
        '  {name = "es1", kind = "es", supply = "230V/1000A@50Hz"},\n'
        '  {name = "h1", kind = "transformer"},\n'
        '  {name = "lamp-1", kind = "lamp"},\n'
        '  {name = "pdp", kind = "pdp"},\n'
        "]\n"
        "link = [\n"
        '  {a = "es1", b = "h1", voltage = "400V"},\n'
        '  {a = "h1", b = "lamp-1", voltage = "230V"},\n'
        "]\n"
    )


@pytest.mark.requirement("MPLA-7-01")
@pytest.mark.parametrize(
    ("old", "new", "line", "column", "said"),
    [
        ('"es1", kind', '"es1" kind', 3, 17, "Unclosed inline table"),
        ("[[link]]", "[[link]", 8, 7, "Expected ']]' at the end of an array declaration"),
        ('name = "s1"', 'nam = "s1"', 4, 4, 'unknown key "nam", did you mean "name"?'),
        ("capacity =", "capazity =", 3, 31, 'unknown key "capazity", did you mean "capacity"?'),
        ("metric = 7", "metrics = 7", 20, 1, 'unknown key "metrics", did you mean "metric"?'),
        ("topology = {", "topology = {nam = 1, ", 1, 13, 'unknown key "nam", did you mean "name"?'),
        ("topology =", "topologie =", 1, 1, 'unknown key "topologie", did you mean "topology"?'),
        (
            'kind = "lamp"',
            'kind = "lamb"',
            5,
            28,
            'a kind is es, transformer, switch, lamp, pdp, got "lamb", did',
        ),
        ('voltage = "230V"', 'voltage = "230"', 15, 11, "a voltage needs a number and a unit"),
        ('voltage = "230V"', "voltage = 230", 15, 11, "a text is needed"),
        ('voltage = "230V"', "", 12, 1, 'the key "voltage" is missing'),
        ('"127.80.0.0"', '"127.80.0"', 1, 37, "Expected 4 octets"),
        ("loss = 5", 'loss = "5"', 19, 8, "Expected `int`, got `str`"),
        ("loss = 5", "loss = -5", 19, 8, "loss is -5, the limit is 0..1,000,000"),
        ('"230V/1A@50Hz"', '"230V"', 5, 46, "a power is V/I"),
        ('"64kbit/s"', '"0bit/s"', 17, 8, "a rate is above 0 bit/s"),
        ('"[::1]:3251"', '"3251"', 3, 86, "a provider is HOST:PORT"),
        ('kind = "pdp"', 'kind = "pdp", capacity = "1W"', 6, 43, "capacity is of nodes of kind es"),
        ('kind = "pdp"', 'kind = "pdp", request = "1V/1A"', 6, 42, "request is of nodes of kind"),
        ('b = "lamp-1"', 'b = "lamp-2"', 14, 5, 'no node is called "lamp-2"'),
        ('name = "street"', 'name = ""', 1, 20, "a name has 1 to 32"),
    ],
)
def test_a_fault_is_told_where_it_stands(
    old: str, new: str, line: int, column: int, said: str
) -> None:
    assert old in STREET
    found = faults(STREET.replace(old, new, 1))
    assert found[0][2].startswith(said)
    assert found[0][:2] == (line, column)


@pytest.mark.requirement("MPLA-7-01")
def test_all_faults_are_told_in_the_order_of_the_lines() -> None:
    text = STREET.replace('"s1", kind', '"es1", kind').replace('"230V"\n', '"2000kV"\n')
    with pytest.raises(InvalidPlan) as caught:
        parse_topology(text, "street.toml")
    assert [(fault.line, fault.column) for fault in caught.value.faults] == [
        (4, 11),
        (10, 5),
        (13, 5),
        (15, 11),
    ]
    assert str(caught.value) == (
        'street.toml: line 4, column 11: a second node is called "es1" (and 3 more)'
    )


def test_not_more_is_told_than_anybody_reads() -> None:
    rows = '  {name = "a", kind = "lamp"},\n' * (MAX_TOLD + 50)
    assert len(faults(f"node = [\n{rows}]\n")) == MAX_TOLD


def test_a_text_that_is_too_long_is_not_read() -> None:
    found = faults("#" * (MAX_CHARACTERS + 1))
    assert found == [(1, 1, "67,108,865 characters, at most 67,108,864")]


@pytest.mark.requirement("MPLA-7-01")
@pytest.mark.parametrize("text", ["", "node = 3", "node = [3]", "node = []", "link = []", "a = [["])
def test_what_is_no_topology(text: str) -> None:
    assert faults(text)


@pytest.mark.requirement("MPLA-7-01")
@given(st.integers(0, len(STREET) - 1), st.sampled_from(list('"[]{}=,.\n#1aV \u00e4')))
def test_an_altered_document_is_a_topology_or_one_error(at: int, sign: str) -> None:
    text = STREET[:at] + sign + STREET[at + 1 :]
    lines = text.split("\n")
    try:
        topology = parse_topology(text, "f")
    except InvalidPlan as error:
        places = [(fault.line, fault.column) for fault in error.faults]
    else:
        places = []
        assert find_faults(topology) == []
    assert all(1 <= line <= len(lines) for line, _ in places)
    assert all(1 <= column <= len(lines[line - 1]) + 1 for line, column in places)


NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,32}", fullmatch=True)
PROFILES = st.sampled_from(
    [None, *map(PowerProfile.parse, ("230V/1A@50Hz,prio=3", "400V/16A@50Hz/wye", "12V/1.5A"))]
)


@st.composite
def stars(draw: st.DrawFn) -> Topology:
    """A transformer with sources and lamps around it, all values drawn."""
    names = draw(st.lists(NAMES, min_size=2, max_size=6, unique=True))
    draft = Draft(draw(NAMES), IPv4Address(draw(st.integers(2**24, 200 * 2**24 - 1))))
    draft.node(names[0], NodeKind.TRANSFORMER)
    for at, name in enumerate(names[1:]):
        if at % 2:
            draft.node(name, NodeKind.LAMP, request=draw(PROFILES))
        else:
            draft.node(
                name,
                NodeKind.ES,
                capacity_mw=draw(st.none() | st.integers(0, 10**15)),
                supply=draw(PROFILES),
                provider=draw(st.sampled_from(["", "127.0.0.1:3251", "[::1]:1", "host:65535"])),
            )
        draft.link(
            names[0],
            name,
            draw(st.integers(1, 10**9)),
            capacity_mw=draw(st.integers(1, 10**15)),
            rate_bps=draw(st.none() | st.integers(1, 10**12)),
            delay_ns=draw(st.integers(0, 10**12)),
            loss_ppm=draw(st.integers(0, 10**6)),
            metric=draw(st.integers(1, 2**24 - 1)),
            fee=draw(st.integers(0, 10**12)),
        )
    return draft.finish()


@pytest.mark.requirement("MPLA-7-02")
@given(stars())
def test_a_topology_is_read_as_it_was_written(topology: Topology) -> None:
    if not find_faults(topology):
        assert parse_topology(format_topology(topology), "f") == topology
