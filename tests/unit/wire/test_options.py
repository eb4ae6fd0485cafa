from dataclasses import replace

import pytest

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Refusal
from powertcp.wire.options import (
    NO_OPTIONS,
    Entity,
    Feed,
    Maintain,
    Meter,
    Options,
    Sampling,
    Seal,
    Tariff,
    decode_options,
    encode_options,
    shorten_text,
    walk_options,
)

KEY = bytes(range(32))
PROFILE = PowerProfile.make(ProfileType.REQUEST, 12000, 1500, tag=7)
FULL = Options(
    msp=16384,
    profiles=(PROFILE, replace(PROFILE, type=ProfileType.MINIMUM, current_ma=5)),
    contract=1,
    reason=Refusal(100, 60_000, -1, 5000, "voll ⚡"),
    sampling=Sampling(1000),
    maintain=Maintain(),
    meter=Meter(60, 2**40, KEY),
    tariff=Tariff(KEY, "EUR", -3),
    entity=Entity(KEY[:16], 2),
    cookie=KEY,
    ticket=b"t",
    seal=Seal(1, 2),
    feed=Feed(KEY[:16], 3),
    via="host:3251",
    unknown=((13, b""), (253, b"\x32\x51")),
)


def refused(area: str) -> tuple[int, int]:
    with pytest.raises(DecodeError) as caught:
        decode_options(bytes.fromhex(area))
    with pytest.raises(DecodeError) as walked:
        walk_options(bytes.fromhex(area))
    assert str(walked.value) == str(caught.value)
    return caught.value.code, caught.value.value


@pytest.mark.requirement("PTCP-2.3-05", "PTCP-2.3-01")
def test_every_option_survives() -> None:
    area = encode_options(FULL)
    assert len(area) % 4 == 0
    assert decode_options(memoryview(area)) == FULL
    walk_options(memoryview(area))


@pytest.mark.requirement("PTCP-2.3-05")
def test_no_options_are_no_octets() -> None:
    assert encode_options(NO_OPTIONS) == b""
    assert encode_options(Options()) == b""
    assert decode_options(b"") is NO_OPTIONS
    assert decode_options(b"\x01\x00\x00\x00") == NO_OPTIONS
    walk_options(b"")


@pytest.mark.requirement("PTCP-2.3-05")
@pytest.mark.parametrize(
    "area",
    [
        "0204 03ff",
        "0312 04" + "00" * 15,
        "0312 70" + "00" * 15,
        "0610 000003e8 000f4240 000003e8 00 00",
        "0610 000003e8 000f4240 000003e8 04 00",
        "0610 000003e8 000f4240 000003e8 01 01",
        "0706 03e8 03 01",
        "092e" + "00" * 32 + "657572 00" + "00" * 8,
        "092e" + "00" * 32 + "455552 01" + "00" * 8,
        "8203 20",
    ],
)
def test_a_value_outside_its_row_is_refused(area: str) -> None:
    assert refused(area) == (503, 20)


@pytest.mark.requirement("PTCP-2.3-03", "PTCP-2.3-04")
def test_reason_text_is_shortened_at_a_character_and_shown_with_replacements() -> None:
    assert shorten_text("a" * 129) == b"a" * 128
    assert shorten_text("⚡" * 43) == "⚡".encode() * 42
    long = Options(reason=Refusal(605, text="⚡" * 50))
    decoded = decode_options(encode_options(long))
    assert decoded.reason == Refusal(605, text="⚡" * 42)
    area = bytes.fromhex("0519 01f4 00000000") + bytes(16) + b"\xff"
    reason = decode_options(area).reason
    assert reason is not None
    assert reason.text == "�"


@pytest.mark.requirement("PTCP-2.3-03", "PTCP-14-01")
def test_sixteen_profiles_and_no_more() -> None:
    sixteen = Options(profiles=(PROFILE,) * 16)
    assert len(decode_options(encode_options(sixteen)).profiles) == 16
    with pytest.raises(LocalProtocolError):
        encode_options(Options(profiles=(PROFILE,) * 17))
    assert refused((b"\x03\x12" + PROFILE.to_wire()).hex() * 17) == (508, 17)


@pytest.mark.requirement("PTCP-2.3-03")
@pytest.mark.parametrize(
    "options",
    [
        Options(msp=65536),
        Options(via="ü"),
        Options(ticket=b"x" * 300),
        Options(unknown=tuple((kind, b"") for kind in range(13, 46))),
        Options(unknown=((13, b"x" * 250), (14, b"x" * 250), (15, b"x" * 9))),
    ],
)
def test_own_options_that_do_not_fit_are_a_bug(options: Options) -> None:
    with pytest.raises(LocalProtocolError):
        encode_options(options)


@pytest.mark.requirement("PTCP-2.3-05", "PTCP-3.3-02")
def test_a_reason_about_an_esn_beyond_63_bits_is_saturated() -> None:
    claimed = Options(reason=Refusal(400, 2**64 - 1, -(2**64)))
    decoded = decode_options(encode_options(claimed))
    assert decoded.reason == Refusal(400, 2**63 - 1, -(2**63))
