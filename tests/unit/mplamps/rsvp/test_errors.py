"""One vocabulary of errors: case, code and value, reason, sentence."""

from ipaddress import IPv4Address

import hypothesis
import hypothesis.strategies as st
import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.power import ENTERPRISE, PowerObject, TariffKind, TariffObject
from powertcp.mplamps.rsvp import IN_PLACE, ErrorSpec, Fault
from powertcp.mplamps.rsvp.errors import (
    Case,
    case_of,
    fault_for,
    fault_of,
    format_price,
    reason_of,
    sentence_of,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import REASONS, Reason

C1, ES = IPv4Address("10.0.0.4"), IPv4Address("10.0.0.1")
NAMES = {C1: "c1", ES: "es1"}
REQUEST = PowerProfile.parse("230V/260mA@50Hz,prio=9")
# MPLampS section 4.8, row by row
TABLE = {
    Case.NO_ROOM: (1, 2, 100),
    Case.NO_ROUTE: (24, 5, 100),
    Case.POLICEMAN: (2, 0, 206),
    Case.VOLTAGE: (252, 101, 101),
    Case.WAVEFORM: (252, 103, 103),
    Case.TARIFF: (252, 104, 104),
    Case.PRIORITY: (252, 105, 105),
    Case.UNPAID: (252, 402, 402),
    Case.NO_PATH: (3, 0, 506),
    Case.NO_SENDER: (4, 0, 506),
    Case.MIXED_STYLES: (5, 0, 506),
    Case.PREEMPTED: (12, 0, 309),
    Case.BAD_ROUTE: (24, 1, 506),
    Case.STRICT_HOP: (24, 2, 506),
    Case.LOOSE_HOP: (24, 3, 506),
    Case.LABEL_VALUE: (24, 6, 506),
    Case.LOOP: (24, 7, 506),
    Case.EXHAUSTED: (24, 9, 508),
    Case.PROTOCOL: (24, 10, 506),
    Case.UNKNOWN_CLASS: (13, 0x1E01, 505),
    Case.UNKNOWN_TYPE: (14, 0x0109, 505),
    Case.OVER_CURRENT: (252, 302, 302),
    Case.BAD_OBJECT: (252, 503, 503),
}
OBJECTS = (Case.UNKNOWN_CLASS, Case.UNKNOWN_TYPE)


def spec(code: int, value: int, flags: int = 4, enterprise: int | None = None) -> ErrorSpec:
    private = ENTERPRISE if code == 252 else 0
    return ErrorSpec(C1, flags, code, value, private if enterprise is None else enterprise)


def power(refuse: str = "") -> PowerObject:
    second = PowerProfile.parse(refuse, ProfileType.REFUSE) if refuse else None
    return PowerObject.make(REQUEST, second)


@pytest.mark.requirement("MPLA-4.8-01")
@pytest.mark.parametrize("case", Case)
def test_each_case_has_code_value_and_reason_of_the_table(case: Case) -> None:
    code, value, reason = TABLE[case]
    fault = fault_of(case, value) if case in OBJECTS else fault_of(case)
    assert fault == Fault(code, value)
    error = ErrorSpec.refusal(C1, *fault)
    assert reason_of(fault) == reason_of(error) == reason
    assert case_of(fault) is case_of(error) is case
    assert isinstance(reason_of(error), Reason)
    assert f" {reason} {Reason(reason).name}: " in sentence_of(error)


@pytest.mark.requirement("MPLA-4.8-01")
def test_a_reason_has_the_standard_code_where_there_is_one() -> None:
    assert fault_for(Reason.NO_CAPACITY) == Fault(1, 2)
    assert fault_for(Reason.POLICY) == Fault(2, 0)
    assert fault_for(Reason.BUDGET) == Fault(12, 0)
    assert fault_for(Reason.LIMIT) == Fault(24, 9)
    assert fault_for(Reason.TARIFF) == Fault(252, 104)
    # reasons of which the table says nothing, and numbers that nobody knows
    assert fault_for(Reason.DRAINING) == Fault(252, 601)
    assert fault_for(9_999) == Fault(252, 9_999)
    for reason in (Reason.STATE, Reason.UNSUPPORTED_OPTION):
        with pytest.raises(LocalProtocolError, match="several cases"):
            fault_for(reason)


@hypothesis.given(st.sampled_from(sorted(set(REASONS) - {505, 506})))
def test_a_reason_comes_back(reason: int) -> None:
    assert reason_of(ErrorSpec.refusal(C1, *fault_for(reason))) == reason


def test_only_an_unknown_object_states_a_value() -> None:
    for case, value in ((Case.UNKNOWN_CLASS, None), (Case.UNKNOWN_TYPE, 1 << 16)):
        with pytest.raises(LocalProtocolError, match="class and C-Type"):
            fault_of(case, value)
    with pytest.raises(LocalProtocolError, match="NO_ROOM has the value 2, got 1"):
        fault_of(Case.NO_ROOM, 1)


def test_errors_that_are_not_in_the_table_have_a_reason() -> None:
    assert reason_of(Fault(1, 0)) == Reason.NO_CAPACITY
    assert reason_of(Fault(2, 7)) == Reason.POLICY
    assert reason_of(Fault(24, 4)) == reason_of(Fault(21, 1)) == Reason.STATE
    assert reason_of(spec(252, 9_999)) == 9_999
    assert sentence_of(spec(252, 9_999)).startswith("refused 9999 REASON_9999: ")
    # the same value under the number of another enterprise means something else
    assert reason_of(spec(252, 104, enterprise=9)) == Reason.STATE
    assert case_of(spec(252, 104, enterprise=9)) is None
    said = "refused 506 STATE: 10.0.0.4 answered with error 21, value 1"
    assert sentence_of(spec(21, 1)) == said


@pytest.mark.parametrize(
    ("error", "power", "said"),
    [
        (
            spec(1, 2), power("230V/43mA@50Hz"),
            "refused 100 NO_CAPACITY: link c1--h3 (400 V) has 9,890 mW left at priority 4,"
            " asked 59,800 mW",
        ),
        (
            spec(1, 2), power("230V/260mA@50Hz"),
            "refused 100 NO_CAPACITY: link c1--h3 (400 V) has the 59,800 mW at priority 4,"
            " but not the rate for them",
        ),
        (
            spec(1, 2), power(),
            "refused 100 NO_CAPACITY: link c1--h3 (400 V) has not the power or the rate left",
        ),
        (
            spec(12, 0), power(),
            "refused 309 BUDGET: link c1--h3 (400 V) had to take 59,800 mW back:"
            " pre-empted or shed",
        ),
    ],
)  # fmt: skip
def test_a_link_is_named_with_its_numbers(error: ErrorSpec, power: PowerObject, said: str) -> None:
    assert sentence_of(error, power, (), NAMES, link="link c1--h3 (400 V)") == said


def test_without_the_link_the_node_is_named() -> None:
    said = "refused 100 NO_CAPACITY: c1 has 9,890 mW left at priority 4, asked 59,800 mW"
    assert sentence_of(spec(1, 2), power("230V/43mA@50Hz"), (), NAMES) == said
    assert sentence_of(spec(12, 0), names=NAMES).endswith(
        "c1 had to take the power back: pre-empted or shed"
    )


def test_what_was_asked_and_what_could_be_done_is_said() -> None:
    said = sentence_of(spec(252, 101), power("220V/260mA@50Hz"), (), NAMES)
    assert said == (
        "refused 101 VOLTAGE_RANGE: c1 does not have this voltage, asked"
        " 230V/0.26A@50Hz,prio=9, it could do 220V/0.26A@50Hz"
    )
    minimum = REQUEST.with_type(ProfileType.MINIMUM)
    said = sentence_of(spec(252, 105), PowerObject.make(REQUEST, minimum), (), NAMES)
    assert said == (
        "refused 105 PRIORITY_DENIED: c1 does not give so good a priority, asked"
        " 230V/0.26A@50Hz,prio=9"
    )
    assert sentence_of(spec(252, 103)).endswith("waveform, phases or frequency")


def test_the_best_offer_is_said_and_the_number_of_the_others() -> None:
    def offer(price: int, supplier: int, source: IPv4Address) -> TariffObject:
        return TariffObject.make(TariffKind.OFFER, price, "EUR", supplier=supplier, source=source)

    offers = [offer(284_100, 7, ES), offer(310_000, 8, ES)]
    said = sentence_of(spec(252, 104), None, offers, NAMES)
    assert said == (
        "refused 104 TARIFF: c1 finds no supplier that is wanted at a price within the limit;"
        " offered: 0.2841 EUR/kWh by supplier 7 from es1, and 1 more"
    )
    alone = sentence_of(spec(252, 104), None, [offer(-5, 7, IPv4Address(0))], NAMES)
    assert alone.endswith("; offered: -0.000005 EUR/kWh by supplier 7")


def test_a_circuit_that_stands_is_not_refused() -> None:
    said = sentence_of(spec(24, 5, IN_PLACE), names=NAMES)
    assert said == "in place 100 NO_CAPACITY: c1 has no way to the source"


def test_an_unknown_object_is_named() -> None:
    said = sentence_of(spec(13, 30 << 8 | 1), names=NAMES)
    assert said.endswith("c1 does not know an object of class 30, C-Type 1")


@pytest.mark.parametrize(
    ("micro", "text"),
    [(284_100, "0.2841"), (300_000, "0.30"), (0, "0.00"), (-1, "-0.000001"), (10**9, "1,000.00")],
)
def test_prices_are_exact(micro: int, text: str) -> None:
    assert format_price(micro, "EUR") == f"{text} EUR/kWh"
