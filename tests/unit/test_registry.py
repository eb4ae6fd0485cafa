"""Code points stand once, and each reason has a sentence a stranger can act on."""

import dataclasses
import string

import pytest

from powertcp import registry
from powertcp.errors import LocalProtocolError
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import ConnectionTerminated
from powertcp.registry import REASONS, Flag, OptionKind, Reason, ReasonRow, Refusal, SegmentType
from powertcp.wire.frames import encode_segment
from powertcp.wire.options import Options, decode_options, encode_options
from powertcp.wire.segments import Control
from tests.conversation import START, counting_entropy


def test_every_reason_has_a_row_with_its_name() -> None:
    assert {row.code: row.name for row in REASONS.values()} == {
        int(one): one.name for one in Reason
    }
    assert len(REASONS) == 55


@pytest.mark.parametrize("row", REASONS.values(), ids=lambda row: row.name)
def test_a_template_uses_only_value_and_limit_and_fills_in(row: ReasonRow) -> None:
    fields = {field for _, field, _, _ in string.Formatter().parse(row.template) if field}
    assert fields <= {"value", "limit"}
    said = Refusal(row.code, 1_234_567, -7_654).sentence()
    assert said.startswith(f"{row.code} {row.name}: ")
    assert ("1,234,567" in said) == ("value" in fields)
    assert Refusal(row.code).unit == row.unit


def test_a_number_or_a_name_is_registered_once() -> None:
    one = ReasonRow(1, "ONE", "", "")
    for other in (ReasonRow(1, "TWO", "", ""), ReasonRow(2, "ONE", "", "")):
        with pytest.raises(LocalProtocolError, match="registered twice"):
            registry.table([one, other])


def test_a_sentence_names_rule_and_retry() -> None:
    refusal = Refusal(Reason.NO_CAPACITY, 60_000, 14_200, retry_ms=5_000, rule="house")
    assert (
        refusal.sentence() == "100 NO_CAPACITY: asked 60,000 mW, 14,200 mW free (house);"
        " retry in 5 s"
    )
    soon = dataclasses.replace(refusal, retry_ms=1_500, rule="")
    assert soon.sentence().endswith("; retry in 1,500 ms")


def test_an_unknown_code_is_kept_and_shown_as_a_number() -> None:
    refusal = Refusal(999, 3, 4)
    assert (refusal.name, refusal.unit) == ("REASON_999", "")
    assert refusal.sentence() == "999 REASON_999: value 3, limit 4"


@pytest.mark.requirement("PTCP-2.3-01")
@pytest.mark.parametrize(
    ("kind", "critical"),
    [(0, False), (127, False), (128, True), (252, True), (253, False), (254, False)],
)
def test_criticality_is_a_range_of_kinds(kind: int, critical: bool) -> None:
    assert registry.is_critical(kind) is critical


def test_flags_are_the_bits_of_tcp() -> None:
    assert [int(flag) for flag in Flag] == [1 << bit for bit in range(8)]


def test_no_code_point_is_used_twice() -> None:
    for numbers in (SegmentType, OptionKind, Reason):
        assert not [name for name, one in numbers.__members__.items() if one.name != name]


@pytest.mark.requirement("PTCP-2.3-04")
def test_the_text_of_a_reason_decides_nothing_and_is_shown_whatever_its_octets() -> None:
    octets = bytearray(encode_options(Options(reason=Refusal(Reason.OPERATOR, 7, 8, text="xx"))))
    at = octets.index(b"xx")
    octets[at : at + 2] = b"\xff\xfe"
    shown = decode_options(memoryview(bytes(octets)), 0).reason
    assert shown is not None
    assert shown.text == "\ufffd\ufffd"

    outcomes = set()
    for text in ("", "600 NORMAL", "do not close", "\ufffd"):
        end = PowerConnection(client=True, config=ConnectionConfig(), entropy=counting_entropy())
        reason = Refusal(Reason.OPERATOR, 7, 8, text=text)
        end.receive_data(encode_segment(Control(0, Flag.RST, 0, Options(reason=reason))), START)
        (event,) = end.take_events()
        assert isinstance(event, ConnectionTerminated)
        assert event.refusal is not None
        assert event.refusal.text == text
        outcomes.add((dataclasses.replace(event.refusal, text=""), end.data_to_send()))
    assert len(outcomes) == 1
