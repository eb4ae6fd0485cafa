"""What the kernel is asked about a way, and what it answers."""

import errno
import struct
from ipaddress import ip_address

import pytest

from powertcp.linux.route import ask_route, parse_route


def answer(*attributes: tuple[int, bytes], kind: int = 24, of: int = 1) -> bytes:
    """Return an answer of a route of type `of`, with its attributes."""
    body = struct.pack("=8BI", 2, 32, 0, 0, 254, 0, 0, of, 0)
    for name, value in attributes:
        body += struct.pack("=HH", 4 + len(value), name) + value + bytes(-len(value) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def test_the_question_names_family_and_address() -> None:
    four = ask_route(ip_address("10.8.0.2"))
    assert struct.unpack_from("=IHH", four) == (len(four), 26, 1)
    assert four[16:18] == bytes((2, 32))
    assert four.endswith(struct.pack("=HH", 8, 1) + bytes((10, 8, 0, 2)))
    six = ask_route(ip_address("fd00::1"))
    assert six[16:18] == bytes((10, 128))
    assert (len(six), six[-1]) == (48, 1)


def test_the_answer_says_by_which_interface() -> None:
    octets = answer((1, bytes(4)), (7, b"\x0a"), (4, struct.pack("=i", 17)))
    assert parse_route(octets) == 17


@pytest.mark.requirement("DPDP-9-03")
def test_the_host_itself_and_nowhere_are_no_way() -> None:
    assert parse_route(answer((4, struct.pack("=i", 1)), of=2)) == 0
    assert parse_route(answer((4, struct.pack("=i", 1)), of=6)) == 0
    assert parse_route(answer()) == 0
    assert parse_route(answer(kind=3)) == 0
    refused = struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -errno.ENETUNREACH) + bytes(16)
    assert parse_route(refused) == 0


def test_what_the_kernel_refuses_is_an_error() -> None:
    refused = struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -errno.ENOBUFS) + bytes(16)
    with pytest.raises(OSError, match="buffer") as caught:
        parse_route(refused)
    assert caught.value.errno == errno.ENOBUFS


@pytest.mark.parametrize("octets", [b"", bytes(12), answer()[:20]])
def test_what_is_cut_short_is_no_answer(octets: bytes) -> None:
    with pytest.raises(struct.error):
        parse_route(octets)


def test_an_attribute_without_a_length_ends_nothing() -> None:
    odd = answer((4, struct.pack("=i", 9)))
    octets = odd[:28] + bytes(4) + odd[28:]
    octets = struct.pack("=I", len(octets)) + octets[4:]
    assert parse_route(octets) == 9
