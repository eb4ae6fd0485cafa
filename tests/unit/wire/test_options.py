import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import OptionKind, Refusal
from powertcp.wire.options import (
    MAX_TICKET,
    MAX_VIA,
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
        "0610 000003e8 00000000 000003e8 01 00",
        "0610 000003e8 000f4240 00000000 01 00",
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


# --- lengths: every one of every kind, by the table of section 2.3 --------------------------------

VALUES = {
    OptionKind.MSP: bytes.fromhex("4000"),
    OptionKind.PROFILE: PROFILE.to_wire(),
    OptionKind.CONTRACT: bytes(4),
    OptionKind.REASON: bytes(22),
    OptionKind.SAMPLING: bytes.fromhex("000003e8 000f4240 000003e8 01 00"),
    OptionKind.MAINTAIN: bytes.fromhex("03e8 03 00"),
    OptionKind.METER: bytes(44),
    OptionKind.TARIFF: bytes(32) + b"EUR" + bytes(9),
    OptionKind.ENTITY: bytes(18),
    OptionKind.COOKIE: bytes(32),
    OptionKind.TICKET: b"t",
    OptionKind.SEAL: bytes(12),
    OptionKind.FEED: bytes(20),
    OptionKind.VIA: b"v",
}
# kinds of variable length: octets that the value may grow by
GROWTH = {OptionKind.REASON: 128, OptionKind.TICKET: MAX_TICKET - 1, OptionKind.VIA: MAX_VIA - 1}


def verdict(read: Callable[[bytes], object], area: bytes) -> tuple[int, int] | None:
    """Return code and value of the refusal of an area, None when it is taken."""
    try:
        read(area)
    except DecodeError as error:
        return error.code, error.value
    return None


@pytest.mark.requirement("PTCP-2.3-02", "PTCP-2.3-03", "PTCP-2.3-05")
@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.name)
def test_every_length_of_a_kind_is_taken_or_refused_by_its_row(kind: OptionKind) -> None:
    value, growth = VALUES[kind], GROWTH.get(kind, 0)
    taken = []
    for length in range(2, 256):
        octets = (value + b"x" * 255)[: length - 2]
        area = bytes((kind, length)) + octets
        area += bytes(-len(area) % 4)
        verdicts = {verdict(decode_options, area), verdict(walk_options, area)}
        assert len(verdicts) == 1
        if verdicts == {None}:
            taken.append(length)
        else:
            assert verdicts == {(503, 20)}
    least = len(value) + 2
    assert taken == list(range(least, least + growth + 1))


@pytest.mark.requirement("PTCP-2.3-03", "PTCP-14-01")
@pytest.mark.parametrize(
    ("at", "above"),
    [
        (Options(msp=65535), Options(msp=65536)),
        (Options(contract=2**32 - 1), Options(contract=2**32)),
        (Options(profiles=(PROFILE,) * 16), Options(profiles=(PROFILE,) * 17)),
        (Options(maintain=Maintain(65535, 255)), Options(maintain=Maintain(65536, 255))),
        (
            Options(unknown=tuple((kind, b"") for kind in range(20, 52))),
            Options(unknown=tuple((kind, b"") for kind in range(20, 53))),
        ),
        # 2 * 254 + 2 + 2 octets are the area of 512
        (
            Options(unknown=((20, bytes(252)), (21, bytes(252)), (22, bytes(2)))),
            Options(unknown=((20, bytes(252)), (21, bytes(252)), (22, bytes(3)))),
        ),
    ],
)
def test_what_we_write_ourselves_keeps_the_caps(at: Options, above: Options) -> None:
    assert decode_options(encode_options(at)) == at
    with pytest.raises(LocalProtocolError):
        encode_options(above)


@pytest.mark.requirement("PTCP-2.3-03")
@pytest.mark.parametrize("octets", [127, 128, 129, 130, 131, 500])
@pytest.mark.parametrize("letter", ["a", "ä", "€", "🔌"])
def test_a_text_is_shortened_at_a_character_wherever_the_limit_falls(
    letter: str, octets: int
) -> None:
    text = letter * (octets // len(letter.encode())) + "b" * (octets % len(letter.encode()))
    short = shorten_text(text)
    assert len(short) <= 128
    assert text.startswith(short.decode())
    # not shorter than it has to be
    rest = text[len(short.decode()) :]
    assert not rest or len(short) + len(rest[0].encode()) > 128
    back = decode_options(encode_options(Options(reason=Refusal(100, text=text)))).reason
    assert back is not None
    assert back.text == short.decode()


@pytest.mark.requirement("PTCP-2.3-05")
@pytest.mark.parametrize("count", range(6))
def test_the_options_of_a_handshake_survive_each_with_and_without_the_others(count: int) -> None:
    whole = {
        "msp": 16384,
        "profiles": (PROFILE, replace(PROFILE, type=ProfileType.MINIMUM, current_ma=5)),
        "contract": 7,
        "sampling": Sampling(4000, pairs=3),
        "maintain": Maintain(500, 10),
    }
    for names in itertools.combinations(whole, count):
        options = Options(**{name: whole[name] for name in names})  # type: ignore[arg-type]
        area = encode_options(options)
        assert decode_options(area) == options
        # the same among others, where no short way is taken
        more = replace(options, ticket=b"t")
        assert decode_options(encode_options(more)) == more
        assert len(encode_options(more)) >= len(area)
