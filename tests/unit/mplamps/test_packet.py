"""IPv4 with TCP, octet by octet, and what is refused."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import DecodeError
from powertcp.mplamps.packet import Packet, find_segment, internet_checksum
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag

LAMP, ES = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.1")
REQUEST = PowerProfile.parse("230V/260mA@50Hz,prio=9")
SYN = (
    "45c00040000040004006 25f3 0a000005 0a000001"
    "c0000cb3 deadbeef 00000000 b002ffff ce390000"
    "02040578 fd143251 44490382 70000104 13880000 00000000"
)


def packet(
    flags: int = Flag.ACK, payload: bytes = b"", mss: int | None = None, *, asks: bool = False
) -> Packet:
    return Packet(
        source=LAMP,
        destination=ES,
        source_port=49152,
        destination_port=3251,
        seq=0xDEADBEEF,
        flags=flags,
        mss=mss,
        request=REQUEST if asks else None,
        payload=payload,
    )


def repaired(octets: bytes | bytearray) -> bytes:
    """Give octets the checksums that they should have."""
    body = (octets[0] & 0xF) << 2
    head = bytearray(octets[:body])
    head[10:12] = bytes(2)
    head[10:12] = internet_checksum(head).to_bytes(2, "big")
    segment = bytearray(octets[body:])
    segment[16:18] = bytes(2)
    pseudo = octets[12:20] + b"\0\6" + len(segment).to_bytes(2, "big")
    segment[16:18] = internet_checksum(pseudo + segment).to_bytes(2, "big")
    return bytes(head + segment)


def with_options(options: bytes) -> bytes:
    """Return a SYN with these options, a multiple of 4 octets."""
    octets = bytearray(packet(Flag.SYN).to_wire() + options)
    octets[2:4] = len(octets).to_bytes(2, "big")
    octets[32] = 5 + len(options) // 4 << 4
    return repaired(octets)


def folded(octets: bytes) -> int:
    """The sum of RFC 1071, word by word."""
    total = 0
    for at in range(0, len(octets), 2):
        total += int.from_bytes(octets[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(st.binary(min_size=1, max_size=80).filter(any))
def test_the_checksum_is_that_of_rfc_1071(octets: bytes) -> None:
    assert internet_checksum(octets) == folded(octets)


@pytest.mark.requirement("MPLA-9-01", "MPLA-9-02")
def test_a_syn_says_what_the_lamp_asks_for() -> None:
    made = packet(Flag.SYN, mss=1400, asks=True)
    octets = made.to_wire()
    assert octets == bytes.fromhex(SYN)
    # the options are 24 octets
    assert len(octets) == 64
    assert repaired(octets) == octets
    assert octets[1] == 48 << 2
    assert octets[6:9].hex() == "400040"
    assert octets[34:36].hex() == "ffff"
    assert Packet.from_wire(octets) == made
    assert made.length == 1


@given(
    st.sampled_from([Flag.ACK, Flag.SYN, Flag.FIN | Flag.ACK, Flag.RST]),
    st.binary(max_size=64),
    st.sampled_from([None, 1400, 536]),
    st.booleans(),
)
def test_packets_there_and_back(flags: int, payload: bytes, mss: int | None, asks: bool) -> None:
    made = packet(flags, payload, mss, asks=asks)
    octets = made.to_wire()
    assert Packet.from_wire(octets) == made
    assert Packet.from_wire(octets + b"padding of a link") == made
    assert folded(octets[:20]) == 0
    # each octet changed is one that is noticed: both sums together cover all of them
    for at in range(0, len(octets), 7):
        changed = bytearray(octets)
        changed[at] ^= 0x10
        with pytest.raises(DecodeError) as caught:
            Packet.from_wire(changed)
        assert caught.value.code in (502, 503)


@pytest.mark.requirement("MPLA-9-02")
@pytest.mark.parametrize(
    ("options", "mss", "asks"),
    [
        ("", None, False),
        ("02040578", 1400, False),
        # options of others are skipped
        ("0402080a00000001000000000103030a02040100", 256, False),
        # other experiments, other lengths, another version of a profile, no REQUEST
        ("fd04325202040578", 1400, False),
        ("fd08325144490382", None, False),
        ("fd14325184490382700001041388000000000000", None, False),
        ("fd14325154490382700001041388000000000000", None, False),
        # the first one counts
        ("fd14325144490382700001041388000000000000fd08325144490382", None, True),
        ("fd14325144490382700001041388000000000000" * 1 + "00000000", None, True),
    ],
)
def test_options_of_a_syn(options: str, mss: int | None, asks: bool) -> None:
    got = Packet.from_wire(with_options(bytes.fromhex(options)))
    assert got.mss == mss
    assert got.request == (REQUEST if asks else None)
    if got.request is not None:
        assert got.request.type is ProfileType.REQUEST


@pytest.mark.parametrize(
    "options",
    ["02000000", "02050578", "0204057802040578", "fd010000", "fd283251", "00000001", "01010103"],
)
def test_options_that_are_malformed(options: str) -> None:
    with pytest.raises(DecodeError) as caught:
        Packet.from_wire(with_options(bytes.fromhex(options)))
    assert caught.value.code == 503


@pytest.mark.parametrize(
    ("at", "octets", "code"),
    [
        (0, "65", 503),
        (0, "44", 502),
        (0, "4f", 502),
        (2, "0027", 502),
        (2, "002d", 502),
        (6, "2000", 503),
        (6, "0001", 503),
        (9, "11", 503),
        (32, "40", 502),
        (32, "f0", 502),
    ],
)
def test_headers_that_are_no_headers(at: int, octets: str, code: int) -> None:
    made = bytearray(packet(payload=b"four").to_wire())
    value = bytes.fromhex(octets)
    made[at : at + len(value)] = value
    with pytest.raises(DecodeError) as caught:
        Packet.from_wire(made)
    assert caught.value.code == code


def test_a_packet_may_lie_anywhere() -> None:
    octets = packet(payload=b"four").to_wire()
    assert find_segment(b"stack..." + octets, 8) == 28
    for size in range(len(octets)):
        with pytest.raises(DecodeError) as caught:
            find_segment(octets[:size])
        assert caught.value.code == 502
