"""The text of a policy: what loads, and broken ones that name line, column and the words expected."""

import pytest

from powertcp.reclaim.policy import Accept, Facts, NetSet, Reclaim, Reject, VoltageSet
from powertcp.reclaim.policy_lines import MAX_FAULTS, MAX_OCTETS, PolicyError
from powertcp.reclaim.policy_text import (
    MAX_ALL_MEMBERS,
    MAX_LENDS,
    MAX_MEMBERS,
    MAX_RESERVOIRS,
    MAX_RULES,
    MAX_SETS,
    MAX_TESTS,
    parse_policy,
)
from powertcp.registry import Reason
from powertcp.vppn.authorized import MAX_OCTETS as MAX_KEYS_OCTETS
from tests.policies import EXAMPLE, load, name_of, rules

KEY = name_of(bytes(32))
STATEMENTS = "reservoir, set, policy, rule, infrastructure, lend, test"
POWER = "expected a power (uW, mW, W, kW, MW)"
NET = "a network (10.0.0.0/8, fd00::/8)"
HEAD = """\
reservoir main capacity 5kWh
reservoir spare capacity 1Wh
set mains voltage 207V-253V
set inside net 10.0.0.0/8
set trusted keys authorized_watts
policy drop
infrastructure from main power 40W share 50%
lend from main offer 12V/5A above 20% listen 127.0.0.1:3251
rule state invalid -> drop
"""
LINE = HEAD.count("\n") + 1
# a line behind HEAD, the column of what is wrong, the word found there, what is said
BROKEN = [
    # statements
    ("ruel state new -> drop", 1, "ruel", 'is no statement, did you mean "rule"?; expected ' + STATEMENTS),
    ("-> drop", 1, "->", f"is no statement; expected {STATEMENTS}"),
    ("policy accept", 1, "policy", "line 6 is the policy already; expected one policy"),
    ('"rule" state new -> drop', 1, "rule", f"expected {STATEMENTS}"),
    ("rule state new -> drop \\ # more", 24, "\\", "\\ is the last sign of a line"),
    ('lend from main offer 12V/5A above 20% listen [::]:1 announce "sun', 62, '"sun', 'has no end; expected "'),
    ('rule state new"" -> drop', 15, '"', "stands alone; expected a blank"),
    ('test state=new "a"b', 19, "b", "stands alone; expected a blank"),
    ("rule " + "x" * 1025, 6, "x" * 1024, "a word has at most 1,024 letters, this one 1,025"),
    # matches
    ("rule", 5, "", "the line ends, expected state, sealed, direction, peer"),
    ("rule state new", 15, "", "the line ends, expected state"),
    ("rule powr > 1W -> drop", 6, "powr", 'is no match, did you mean "power"?; expected state, sealed'),
    ("rule state new drop", 16, "drop", "is no match; expected state"),
    ("rule power>500W -> drop", 6, "power>500W", 'is no match, did you mean "power"?'),
    ("rule state open -> drop", 12, "open", "is no state; expected new, offered, energised, renegotiating"),
    ("rule sealed maybe -> drop", 13, "maybe", "expected yes, no"),
    ("rule direction inside -> drop", 16, "inside", 'is no direction, did you mean "in"?; expected in, out'),
    ("rule waveform sine -> drop", 15, "sine", "is no waveform; expected dc, ac, any"),
    ("rule state new state stale -> drop", 16, "state", "state stands twice; expected another match, ->"),
    ("rule power 500W -> drop", 12, "500W", "is no comparison; expected =, !=, <, <=, >, >="),
    ("rule power > 500 -> drop", 14, "500", 'a power needs a number and a unit'),
    ("rule power > 500V -> drop", 14, "500V", f'got "V" in "500V"; {POWER}'),
    ("rule power > -> drop", 14, "->", POWER),
    ("rule power >", 13, "", "the line ends, expected a power (uW, mW, W, kW, MW)"),
    ("rule voltage > 1W -> drop", 16, "1W", "expected a voltage (uV, mV, V, kV)"),
    ("rule current > 1V -> drop", 16, "1V", "expected a current (uA, mA, A, kA)"),
    ("rule energy > 1kW -> drop", 15, "1kW", "expected an energy (uJ, mJ, J, kJ, MJ, mWh, Wh, kWh, MWh)"),
    ("rule frequency = 50 -> drop", 18, "50", "expected a frequency (cHz, Hz, kHz)"),
    ("rule power > 0.5mW -> drop", 14, "0.5mW", 'a power "0.5mW" is finer than 1 mW'),
    ("rule power > -1W -> drop", 14, "-1W", "a power cannot be negative"),
    ("rule power > 9999999999999MW -> drop", 14, "9999999999999MW", "is more than 63 bits hold"),
    ("rule power > \u0661W -> drop", 14, "\u0661W", "has letters of ASCII only"),
    ("rule priority >= 16 -> drop", 18, "16", "a priority is 1 (best) to 15"),
    ("rule priority < 1 -> drop", 6, "priority", "priority < 1 never holds; expected a match that can hold"),
    ("rule load > 90 -> drop", 13, "90", "expected a percentage (%)"),
    ("rule load > 1001% -> drop", 13, "1001%", "up to 1000%"),
    ("rule tariff > 0.40 -> drop", 15, "0.40", "expected a price per kWh (0.40EUR)"),
    ("rule tariff > 0.4000001EUR -> drop", 15, "0.4000001EUR", "expected a price per kWh (0.40EUR)"),
    ("rule time 25:00-06:00 -> drop", 11, "25:00-06:00", "expected two times of day (22:00-06:00)"),
    ("rule time 06:00 -> drop", 11, "06:00", "a time is FROM-TO"),
    ("rule time 06:00-06:00 -> drop", 11, "06:00-06:00", "no time is between them"),
    ("rule power > 1kW power < 1kW -> drop", 18, "power", "no value is all of power > 1kW, power < 1kW"),
    ("rule tariff > 1EUR tariff < 2USD -> drop", 20, "tariff", "a price has one currency"),
    ("rule load > 1% load > 2% load > 3% load > 4% load > 5% -> drop", 46, "load", "load stands more than 4 times"),
    # references
    ("rule voltage = @main -> drop", 16, "@main", 'there is no set "main", did you mean "mains"?; expected @mains'),
    ("rule voltage = @inside -> drop", 16, "@inside", "the set inside has networks; expected a set of voltages"),
    ("rule voltage > @mains -> drop", 14, ">", "expected =, !="),
    ("rule src @mains -> drop", 10, "@mains", "the set mains has voltages; expected a set of networks"),
    ("rule src 10.0.0.1/8 -> drop", 10, "10.0.0.1/8", f"bits beyond the prefix are set; expected @NAME, {NET}"),
    ("rule dst ::ffff:10.0.0.0/104 -> drop", 10, "::ffff:10.0.0.0/104", "an IPv4 network is written as one"),
    ("rule peer alice -> drop", 11, "alice", "expected @NAME, a key (x25519:BASE64), unknown"),
    ("rule peer @inside -> drop", 11, "@inside", "the set inside has networks; expected a set of keys"),
    ("rule entity @inside -> drop", 13, "@inside", "expected an entity (32 hexadecimal digits)"),
    ("rule feed 7f3a -> drop", 11, "7f3a", "expected a feed (32 hexadecimal digits)"),
    # verdicts
    ("rule state new ->", 18, "", "the line ends, expected accept, drop, reject, reclaim"),
    ("rule state new -> allow", 19, "allow", "is no verdict; expected accept, drop, reject, reclaim"),
    ("rule state new -> reject", 25, "", "the line ends, expected a reason code (206)"),
    ("rule state new -> reject POLICY", 26, "POLICY", "a reason is written as its number, POLICY is 206"),
    ("rule state new -> reject 299", 26, "299", 'no reason has the code "299"; expected a reason code'),
    ("rule state new -> reclaim mian", 27, "mian", 'no reservoir "mian", did you mean "main"?; expected main, spare'),
    ("rule state new -> drop quietly", 24, "quietly", "is no modifier; expected limit, mark-ece, log, count"),
    ("rule state new -> accept log log", 30, "log", "log stands twice; expected limit"),
    ("rule state new -> accept limit 1J", 32, "1J", POWER),
    ("rule state new -> accept limit 0W", 32, "0W", "it is above 0"),
    ("rule state new -> accept burst 1J", 26, "burst", "burst stands after its limit"),
    ("rule state new -> accept limit 1W burst 1W", 41, "1W", "expected an energy"),
    ("rule state new -> drop limit 1W", 24, "limit", "limit does not go with drop; expected log, count"),
    ("rule state new -> reclaim main mark-ece", 32, "mark-ece", "mark-ece does not go with reclaim"),
    ("rule state new -> accept count", 31, "", "the line ends, expected a name"),
    ("rule state new -> accept count a/b", 32, "a/b", "a name has 1 to 64 letters, digits"),
    ("policy drop log", 1, "policy", "line 6 is the policy already"),
    # rules that are never reached
    ("rule state invalid sealed yes -> accept", 1, "rule", "never reached: line 9 matches all that it does"),
    ("rule state invalid -> drop", 1, "rule", "never reached: line 9"),
    # reservoirs and sets
    ("reservoir main capacity 1kWh", 11, "main", "there are two of reservoir main; expected another name"),
    ("reservoir @a capacity 1kWh", 11, "@a", "a name has 1 to 64 letters"),
    ("reservoir a charge 90%", 23, "", "reservoir a has no capacity; expected capacity"),
    ("reservoir a capacity 1kW", 22, "1kW", "expected an energy"),
    ("reservoir a capacity 0J", 13, "capacity", "capacity 0 uJ is not 1 to"),
    ("reservoir a capacity 1kWh charge 100%", 27, "charge", "charge 100% is not 1% to 99%"),
    ("reservoir a capacity 1kWh discharge 101%", 37, "101%", "up to 100%"),
    ("reservoir a capacity 1kWh floor 100%", 27, "floor", "floor 100% is not 0% to 99%"),
    ("reservoir a capacity 1kWh capacity 2kWh", 27, "capacity", "capacity stands twice; expected charge"),
    ("reservoir a capacity 1kWh max-power 1W", 27, "max-power", 'is no term of a reservoir, did you mean "max-'),
    ("reservoir a capacity 1kWh when-full spill", 37, "spill", "expected stop, heat"),
    ("set inside voltage 1V", 5, "inside", "there are two of set inside"),
    ("set a", 6, "", "the line ends, expected keys, voltage, net"),
    ("set a volts 1V", 7, "volts", 'did you mean "voltage"?; expected keys, voltage, net'),
    ("set a voltage", 14, "", "the line ends, expected a range of voltage (207V-253V)"),
    ("set a voltage 5V-1V", 15, "5V-1V", "a range is LEAST-MOST"),
    ("set a net 10.0.0.0/33", 11, "10.0.0.0/33", f"expected {NET}"),
    ("set a keys", 11, "", "the line ends, expected the name of a file"),
    ("set a keys nowhere", 12, "nowhere", "it cannot be read: [Errno 2] No such file or directory"),
    ("set a keys authorized_watts more", 29, "more", "cannot stand here; expected the end of the line"),
    # infrastructure, lend
    ("infrastructure from main power auto share 1%", 1, "infrastructure", "line 7 is about the infrastructure"),
    ("lend main", 6, "main", "expected from"),
    ("lend from main offer 12V above 20% listen [::]:1", 22, "12V", "expected a power (12V/5A,prio=5)"),
    ("lend from main offer 12V/5A above 20W listen [::]:1", 35, "20W", "expected a percentage (%)"),
    ("lend from main offer 12V/5A above 20% listen :::1", 46, ":::1", "expected an address and a port ([::]:3251)"),
    ("lend from main offer 12V/5A above 20% listen [::]:65536", 46, "[::]:65536", "a port is at most 65535"),
    ("lend from main offer 12V/5A above 20% listen 127.0.0.1:3251", 46, "127.0.0.1:3251", "two lenders listen on"),
    ("lend from spare offer 12V/5A above 20% listen [::]:1 announce sun shine", 67, "shine", "the end of the line"),
    ('lend from spare offer 12V/5A above 20% listen [::]:1 announce ""', 63, "", "1 to 63 octets"),
    # tests
    ("test state=new", 15, "", "the line ends, expected WORD=VALUE, ->"),
    ("test stat=new -> drop", 6, "stat=new", 'is no fact, did you mean "state"?; expected state=VALUE'),
    ("test state -> drop", 11, "state", "state needs a value; expected state=VALUE"),
    ("test state=open -> drop", 12, "open", "is no state; expected new"),
    ("test state=new state=new -> drop", 16, "state=new", "state stands twice"),
    ("test power=1V -> drop", 12, "1V", POWER),
    ("test peer=nobody -> drop", 11, "nobody", "no key is called"),
    ("test peer=@inside -> drop", 11, "@inside", "expected a set of keys"),
    ("test time=24:00 -> drop", 11, "24:00", "a minute of the day is 00:00 to 23:59"),
    ("test src=10.0.0.0/8 -> drop", 10, "10.0.0.0/8", "expected an address (10.0.0.1, fd00::1)"),
    ("test tariff=1 -> drop", 13, "1", "expected a price per kWh"),
    ("test state=new -> drop line x", 29, "x", "expected the number of a line"),
    ("test state=new -> drop line 1 log", 31, "log", "expected the end of the line"),
    ("test state=new -> drop limit 1W", 24, "limit", "limit does not go with drop"),
]  # fmt: skip


@pytest.mark.requirement("FWRL-3-15", "FWRL-1-01")
@pytest.mark.parametrize(("line", "column", "found", "text"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_names_its_place_and_what_would_do(
    line: str, column: int, found: str, text: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        load(f"{HEAD}{line}\n")
    (fault,) = caught.value.faults
    assert (fault.line, fault.column, fault.found) == (LINE, column, found)
    assert text in fault.text
    assert fault.expected
    assert all(fault.expected)
    assert str(caught.value).startswith(f"firewall.policy: line {LINE}, column {column}: ")


def test_there_are_twenty_broken_policies() -> None:
    assert len(BROKEN) >= 20
    load(HEAD)


@pytest.mark.requirement("FWRL-3-15")
@pytest.mark.parametrize("text", ["", "# policy drop\n", "rule sealed yes -> drop\n"])
def test_a_policy_without_a_policy_statement(text: str) -> None:
    with pytest.raises(PolicyError, match="there is no policy statement; expected policy accept"):
        load(text)


@pytest.mark.requirement("FWRL-3-15")
def test_a_broken_policy_statement_is_one_fault() -> None:
    with pytest.raises(PolicyError) as caught:
        load("policy deny\n")
    assert [fault.column for fault in caught.value.faults] == [8]


@pytest.mark.requirement("FWRL-3-15")
def test_all_faults_are_told_in_order_and_nothing_holds() -> None:
    with pytest.raises(PolicyError) as caught:
        load(f"rule\n{HEAD}set a net x\nrule sealed no -> drop limit 1W\nreservoir b\n")
    assert [(fault.line, fault.column) for fault in caught.value.faults] == [
        (1, 5),
        (LINE + 1, 11),
        (LINE + 2, 24),
        (LINE + 3, 12),
    ]
    assert str(caught.value).endswith("(and 3 more)")


def test_what_names_a_broken_statement_is_no_fault_of_its_own() -> None:
    text = (
        "set a voltage 1W\nreservoir b charge 1%\nset c keys nowhere\npolicy reclaim b\n"
        "rule voltage = @a -> drop\nrule state new -> reclaim b\ntest peer=alice -> drop\n"
        "test peer=@c -> drop\n"
    )
    with pytest.raises(PolicyError) as caught:
        load(text)
    assert [fault.line for fault in caught.value.faults] == [1, 2, 3]


def test_not_more_faults_than_help() -> None:
    for text in ("x\n" * 100, "set a\n" * 100, 'a"\n' * 100, "rule -> drop\n" * 100):
        with pytest.raises(PolicyError) as caught:
            load(text)
        assert len(caught.value.faults) == MAX_FAULTS


def test_what_is_named_may_stand_behind_what_names_it() -> None:
    policy = load(
        "rule src @a -> reclaim b\npolicy reclaim b\nset a net 10.0.0.0/8\nreservoir b capacity 1J\n"
    )
    assert policy.default == Reclaim("b")


def test_lines_go_on_and_comments_end() -> None:
    policy = load(
        "# policy accept \\\n"
        "policy \\\n"
        "\tdrop   # not \\\n"
        "rule state new  \\\n"
        "   power > 1W \\\n"
        "   -> accept#log\n".replace("#log", " # log")
        + "rule sealed yes -> accept log\\\n".replace("\\", "")
    )
    (first, second) = policy.rules
    assert (first.line, first.text) == (4, "rule state new power > 1W -> accept")
    assert (second.line, second.is_logging) == (7, True)
    assert policy.default_line == 2


@pytest.mark.parametrize("end", ["\\", "\\\n"])
def test_a_file_that_ends_within_a_statement(end: str) -> None:
    with pytest.raises(PolicyError, match=r"the file ends after|the line ends"):
        load(f"policy drop\nrule state new {end}")


@pytest.mark.parametrize(
    ("octets", "line", "column", "text"),
    [
        (b"policy drop\r\n", 1, 12, "U+000D is no printable sign"),
        (b"policy drop\n\xff", 2, 1, "it is not UTF-8"),
        (b"policy\x00drop\n", 1, 7, "U+0000"),
        (b"#" * (MAX_OCTETS + 1), 1, 1, "1,048,577 octets, at most 1,048,576"),
    ],
)
def test_octets_that_are_no_text(octets: bytes, line: int, column: int, text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(octets, "p")
    (fault,) = caught.value.faults
    assert (fault.line, fault.column) == (line, column)
    assert text in fault.text


def test_sets_and_modifiers() -> None:
    policy = load(
        "set v voltage 5V 12V-24V 5V\nset n net 10.0.0.1 fd00::/8\nreservoir r capacity 1kWh\n"
        "policy reject 206\n"
        "rule voltage = @v -> accept mark-ece log limit 2W count c burst 3J\n"
        "rule src @n -> reclaim r limit 500mW log\n"
        "rule state new -> reject 100 count c log\n"
    )
    assert policy.default == Reject(Reason.POLICY)
    volts, nets = policy.sets["v"], policy.sets["n"]
    assert isinstance(volts, VoltageSet)
    assert volts.ranges == ((5_000, 5_000), (12_000, 24_000))
    assert isinstance(nets, NetSet)
    assert [str(net) for net in nets.networks] == ["10.0.0.1/32", "fd00::/8"]
    first, second, third = policy.rules
    assert first.verdict == Accept(2_000, 3_000_000, is_marking=True)
    assert (first.counter, first.is_logging) == ("c", True)
    assert second.verdict == Reclaim("r", 500, 1_000_000)
    assert (str(first.verdict), str(second.verdict), str(third.verdict)) == (
        "accept limit 2W burst 3J mark-ece",
        "reclaim r limit 500mW burst 1J",
        "reject 100",
    )


def test_every_term_of_a_reservoir() -> None:
    policy = rules(
        "reservoir a capacity 1kWh charge 80% discharge 81% leak 50uW max-in 1W max-out 2W"
        " floor 3% when-full heat\nreservoir b capacity 1J leak 0.5mW\nreservoir c capacity 1J leak 2W"
    )
    terms = policy.reservoirs["a"]
    assert (terms.charge_percent, terms.discharge_percent, terms.leak_uw) == (80, 81, 50)
    assert (terms.max_in_mw, terms.max_out_mw, terms.floor_percent) == (1_000, 2_000, 3)
    assert not terms.is_stopping
    assert [policy.reservoirs[name].leak_uw for name in "bc"] == [500, 2_000_000]


def test_a_store_without_losses_is_for_a_laboratory() -> None:
    text = "reservoir a capacity 1kWh charge 100% discharge 100%\npolicy drop\n"
    with pytest.raises(PolicyError) as caught:
        load(text)
    assert [fault.text.split(";")[0] for fault in caught.value.faults] == [
        "charge 100% is not 1% to 99%"
    ]
    assert load(text, is_lab=True).reservoirs["a"].charge_percent == 100


def test_how_a_statement_is_laid_out_does_not_count() -> None:
    def told(text: str) -> list[tuple[str, list[str], str]]:
        rules = load(text).rules
        return [(it.text, [one.text for one in it.matches], str(it.verdict)) for it in rules]

    again = EXAMPLE.replace("  ", "\t").replace("\n\n", "\n").replace(" ->", " \\\n  ->")
    assert told(again) == told(EXAMPLE)


# ---- bounds -------------------------------------------------------------------------------------


def refused(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        load(text)
    return caught.value.faults[0].text


def test_so_many_rules() -> None:
    text = "policy drop\n" + "".join(f"rule power = {n}mW -> drop\n" for n in range(MAX_RULES))
    policy = load(text)
    assert policy.evaluate(Facts(power_mw=MAX_RULES - 1)).line == MAX_RULES + 1
    assert "there are more than 10,000 rules" in refused(f"{text}rule sealed yes -> drop\n")


def test_so_many_sets() -> None:
    text = "policy drop\n" + "".join(f"set a{n} net ::/0\n" for n in range(MAX_SETS))
    assert len(load(text).sets) == MAX_SETS
    assert "there are more than 256 of set" in refused(f"{text}set b net ::/0\n")


def test_so_many_members() -> None:
    ranges = " ".join(f"{n}V" for n in range(MAX_MEMBERS))
    text = "policy drop\n" + "".join(
        f"set a{n} voltage {ranges}\n" for n in range(MAX_ALL_MEMBERS // MAX_MEMBERS)
    )
    assert len(load(text).sets) == MAX_ALL_MEMBERS // MAX_MEMBERS
    assert "a set has at most 4,096 members" in refused(f"set a voltage {ranges} 1kV\n")
    assert "all sets have at most 16,384 members" in refused(f"{text}set b net ::/0\n")


def test_so_many_reservoirs_lenders_and_tests() -> None:
    stores = "".join(f"reservoir r{n} capacity 1J\n" for n in range(MAX_RESERVOIRS))
    lend = "lend from r0 offer 5V/1A above 1% listen 127.0.0.1:0\n"
    case = "test state=new -> drop\n"
    text = f"policy drop\n{stores}{lend * MAX_LENDS}{case * MAX_TESTS}"
    policy = load(text)
    assert (len(policy.lends), len(policy.tests)) == (MAX_LENDS, MAX_TESTS)
    assert "more than 64 of reservoir" in refused(f"{text}reservoir r capacity 1J\n")
    assert "more than 16 lenders" in refused(text + lend)
    assert "more than 10,000 tests" in refused(f"{text}test state=new -> drop\n")


def test_a_file_of_keys_that_is_not_valid_is_told_with_its_place() -> None:
    def bad(name: str) -> bytes:
        return b"guest\n"

    with pytest.raises(PolicyError) as caught:
        parse_policy(b"policy drop\nset a keys watts\n", "p", bad)
    (fault,) = caught.value.faults
    assert (fault.line, fault.column, fault.found) == (2, 12, "watts")
    assert "watts: line 1, column 6: a line says what is allowed" in fault.text


def test_a_file_of_keys_may_hold_more_than_fits() -> None:
    line = f"key {KEY} max-power=1W\n".encode()
    assert len(line) * (MAX_MEMBERS + 1) <= MAX_KEYS_OCTETS
    octets = line * (MAX_MEMBERS + 1)
    with pytest.raises(PolicyError, match="a set has at most 4,096 members"):
        parse_policy(b"policy drop\nset a keys watts\n", "p", lambda _: octets)
    parse_policy(b"policy drop\nset a keys watts\n", "p", lambda _: octets[len(line) :])
