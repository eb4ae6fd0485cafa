"""What a simulation is told to do, and where a script is wrong."""

import re

import pytest

from powertcp.errors import Fault
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.script import (
    DEFAULT_SCRIPT,
    MAX_ACTS,
    MAX_FAULTS,
    MAX_LINE,
    Act,
    InvalidScript,
    Verb,
    parse_script,
)
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_MS, NS_PER_S

STREET = generate_topology("street:3", has_pdp=True)
LAMPS = ("lamp-1", "lamp-2", "lamp-3")


def faults_of(text: str) -> list[Fault]:
    with pytest.raises(InvalidScript) as caught:
        parse_script(text, STREET, "dusk.txt")
    return list(caught.value.faults)


def test_without_a_script_every_lamp_is_switched_on() -> None:
    assert parse_script(DEFAULT_SCRIPT, STREET) == [Act(at_ns=0, verb=Verb.ON, names=LAMPS)]


def test_every_act_is_read() -> None:
    text = """
    # a night
    1.5s  on lamp-[12]     # two of them
    2s    off lamp-1
    3s    set lamp-2 230V/1A@50Hz
    4s    migrate lamp-* peer
    5s    migrate lamp-3
    6s    cut c1--s1
    7s    mend s?--c1
    8s    derate c1--h1 60W
    9s    crash s1
    10s   restart s1
    11s   pdp-down
    12s   pdp-up
    13s   price 7 0.40
    14s   price 7 -0.01/kWh
    """
    substation = [STREET.between("s1", "c1"), STREET.between("s2", "c1")]
    first, second = (link.number for link in substation if link)
    house = STREET.between("c1", "h1")
    assert house is not None
    assert parse_script(text, STREET) == [
        Act(at_ns=1500 * NS_PER_MS, verb=Verb.ON, names=LAMPS[:2]),
        Act(at_ns=2 * NS_PER_S, verb=Verb.OFF, names=("lamp-1",)),
        Act(
            at_ns=3 * NS_PER_S,
            verb=Verb.SET,
            names=("lamp-2",),
            profile=PowerProfile.parse("230V/1A@50Hz"),
        ),
        Act(at_ns=4 * NS_PER_S, verb=Verb.MIGRATE, names=LAMPS, model="peer"),
        Act(at_ns=5 * NS_PER_S, verb=Verb.MIGRATE, names=("lamp-3",)),
        Act(at_ns=6 * NS_PER_S, verb=Verb.CUT, links=(first,)),
        Act(at_ns=7 * NS_PER_S, verb=Verb.MEND, links=(first, second)),
        Act(at_ns=8 * NS_PER_S, verb=Verb.DERATE, links=(house.number,), power_mw=60_000),
        Act(at_ns=9 * NS_PER_S, verb=Verb.CRASH, names=("s1",)),
        Act(at_ns=10 * NS_PER_S, verb=Verb.RESTART, names=("s1",)),
        Act(at_ns=11 * NS_PER_S, verb=Verb.PDP_DOWN),
        Act(at_ns=12 * NS_PER_S, verb=Verb.PDP_UP),
        Act(at_ns=13 * NS_PER_S, verb=Verb.PRICE, supplier=7, price=400_000),
        Act(at_ns=14 * NS_PER_S, verb=Verb.PRICE, supplier=7, price=-10_000),
    ]


def test_acts_are_in_the_order_of_their_times_and_those_of_one_time_keep_theirs() -> None:
    acts = parse_script("2s on lamp-1\n1s on lamp-2\n1s off lamp-2\n", STREET)
    assert [(act.at_ns // NS_PER_S, act.verb) for act in acts] == [
        (1, Verb.ON),
        (1, Verb.OFF),
        (2, Verb.ON),
    ]


@pytest.mark.parametrize(
    ("line", "column", "said"),
    [
        ("soon on *", 1, "a duration needs a number and a unit"),
        ("-1s on *", 1, "a duration cannot be negative"),
        ("  1s", 5, "an act follows the time: on, off, set"),
        ("1s switch *", 4, 'an act is on, off, set, .* got "switch"'),
        ("1s derat c1--h1 1W", 4, 'did you mean "derate"'),
        ("1s on", 6, '"on" is written: TIME on LAMP'),
        ("1s on * now", 9, '"on" is written: TIME on LAMP'),
        ("1s on lmp-1", 7, 'no lamp matches "lmp-1", did you mean "lamp-1"'),
        ("1s on c1", 7, 'no lamp matches "c1"'),
        ("1s set lamp-1 230", 15, "230"),
        ("1s migrate lamp-1 pear", 19, 'a model is overlay or peer, got "pear", did you mean'),
        ("1s cut c1--h4", 8, 'no link matches "c1--h4", did you mean "c1--h3"'),
        ("1s derate c1--h1 60", 18, "a power needs a number and a unit"),
        ("1s crash pdp", 10, 'no node matches "pdp"'),
        ("1s pdp-down now", 13, '"pdp-down" is written: TIME pdp-down'),
        ("1s price seven 0.40", 10, 'the id of a supplier, got "seven"'),
        ("1s price 7 much", 12, "a price needs a number and a unit"),
    ],
)
def test_a_wrong_word_has_its_place(line: str, column: int, said: str) -> None:
    (fault,) = faults_of(f"# first\n{line}\n")
    assert (fault.line, fault.column) == (2, column)
    assert re.search(said, fault.text), fault.text


def test_all_faults_are_told_up_to_a_limit() -> None:
    assert [fault.line for fault in faults_of("1s on\n1s on *\n1s of *\n")] == [1, 3]
    assert len(faults_of("1s on\n" * (MAX_FAULTS + 1))) == MAX_FAULTS


def test_a_line_has_an_end() -> None:
    line = "1s on *".ljust(MAX_LINE)
    assert len(parse_script(line, STREET)) == 1
    (fault,) = faults_of(f"{line} ")
    assert (fault.column, fault.text) == (
        MAX_LINE + 1,
        f"a line has at most {MAX_LINE:,} characters",
    )


def test_a_script_has_an_end() -> None:
    text = "1s pdp-up\n" * MAX_ACTS
    assert len(parse_script(text, STREET)) == MAX_ACTS
    assert faults_of(f"{text}1s pdp-up\n2s pdp-up\n") == [
        Fault(MAX_ACTS + 1, 1, f"a script has at most {MAX_ACTS:,} acts")
    ]
