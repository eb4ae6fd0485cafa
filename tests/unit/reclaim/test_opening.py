"""What a connection and a flow open with."""

import pytest

from powertcp.potcp.events import Ask
from powertcp.reclaim.opening import is_power, is_syn, via_of
from powertcp.registry import Flag, SegmentType
from powertcp.wire.frames import MAX_WORDS, MIN_WORDS, RawSegment, Splitter, encode_segment
from powertcp.wire.options import Options
from powertcp.wire.segments import Control
from tests.conversation import ask


def raw_of(flags: Flag, options: Options) -> RawSegment:
    [raw] = Splitter(1024).receive(encode_segment(Control(1, flags, 0, options)))
    return raw


def options_of(asked: Ask, via: str | None = None) -> Options:
    return Options(profiles=(asked.desired,), via=via)


@pytest.mark.requirement("FWRL-2-01")
def test_power_is_told_by_magic_version_and_offset() -> None:
    begins = bytes.fromhex("504f01")
    for words in range(256):
        assert is_power(begins + bytes([words])) is (MIN_WORDS <= words <= MAX_WORDS)
    for place in range(3):
        wrong = bytearray(begins + bytes([MIN_WORDS]))
        wrong[place] ^= 1
        assert not is_power(bytes(wrong))


@pytest.mark.requirement("FWRL-2-03")
def test_a_request_says_where_it_goes_or_does_not() -> None:
    asked = ask("12V/1A")
    assert via_of(raw_of(Flag.SYN, options_of(asked, "10.0.0.5:3251"))) == "10.0.0.5:3251"
    assert via_of(raw_of(Flag.SYN, options_of(asked))) is None
    torn = raw_of(Flag.SYN, options_of(asked))
    assert via_of((*torn[:4], memoryview(b"\xff"), torn[5])) is None


def test_only_a_syn_asks_for_a_flow() -> None:
    assert is_syn(raw_of(Flag.SYN, options_of(ask("12V/1A"))))
    assert not is_syn(raw_of(Flag.RST, Options()))
    assert not is_syn((SegmentType.DATA, Flag.SYN, 1, 0, memoryview(b""), memoryview(b"")))
