"""pcapng of raw IPv4: written, read again, in either order of octets, or refused."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.wire import capture
from powertcp.wire.capture import (
    MAX_BLOCK,
    CaptureReader,
    CaptureWriter,
    Packet,
    ipv4_packet,
    read_capture,
    udp_packet,
)

# 2002-04-01T00:00:00Z
DUSK_NS = 1_017_619_200_000_000_000
ONE, OTHER = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
PACKETS = [
    Packet(DUSK_NS, "a--b", ipv4_packet(ONE, OTHER, 6, b"odd")),
    Packet(DUSK_NS + 1, "b--c", udp_packet(OTHER, ONE, 3455, b"lamp on")),
]
WRITER = CaptureWriter(["a--b", "b--c"])
FILE = WRITER.header() + b"".join(map(WRITER.packet, PACKETS))


def total(octets: bytes) -> int:
    return int.from_bytes(octets + bytes(len(octets) % 2), "big") % 0xFFFF


@pytest.mark.requirement("MPLA-10-01")
def test_what_is_written_is_read() -> None:
    assert list(read_capture(FILE)) == PACKETS


def test_checksums_are_right() -> None:
    octets = PACKETS[1].octets
    assert total(octets[:20]) == 0
    assert total(octets[12:20] + b"\0\x11" + octets[24:26] + octets[20:]) == 0
    assert int.from_bytes(octets[2:4], "big") == len(octets)


def test_a_checksum_of_0_is_sent_as_all_ones() -> None:
    sums = {udp_packet(ONE, OTHER, 1, number.to_bytes(2, "big"))[26:28] for number in range(65536)}
    assert b"\0\0" not in sums
    assert len(sums) == 65535


def big_endian() -> bytes:
    """Return a capture as a machine of the other order of octets writes it, in microseconds."""

    def block(kind: int, body: bytes) -> bytes:
        size = (12 + len(body)).to_bytes(4, "big")
        return kind.to_bytes(4, "big") + size + body + size

    section = bytes.fromhex("1a2b3c4d00010000") + b"\xff" * 8
    interface = bytes.fromhex("006500000000000000020003612d620000000000")
    half = bytes.fromhex("00650000000000000009000181000000")
    packet = bytes.fromhex("000000000000000000000005000000020000000245000000")
    late = bytes.fromhex("000000010000000000000003000000010000000145000000")
    kinds = (0x0A0D0D0A, 1, 1, 5, 6, 6)
    return b"".join(map(block, kinds, (section, interface, half, b"", packet, late)))


def test_captures_of_others_are_read() -> None:
    assert list(read_capture(big_endian())) == [
        Packet(5_000, "a-b", b"\x45\0"), Packet(1_500_000_000, "", b"\x45"),
    ]  # fmt: skip


def cut() -> Iterator[tuple[bytes, str]]:
    section, interface = FILE[:28], FILE[28:]
    yield b"", "block type"
    yield FILE[4:], "block type"
    yield FILE[:-1], "block length"
    yield FILE + b"\6\0\0\0", "block"
    yield section[:8] + bytes(4) + section[12:], "byte order"
    yield section + interface[:8] + b"\1\0" + interface[10:], "link type"
    yield section + b"\1\0\0\0\x0c\0\0\0\x0c\0\0\0", "interface"
    yield section + b"\6\0\0\0\x0c\0\0\0\x0c\0\0\0", "packet"
    yield section + WRITER.packet(PACKETS[0]), "interface"
    long = WRITER.packet(PACKETS[0])
    yield WRITER.header() + long[:20] + b"\xff" + long[21:], "captured length"


@pytest.mark.parametrize(("octets", "field"), list(cut()))
def test_what_is_no_capture_is_refused(octets: bytes, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        list(read_capture(octets))
    assert caught.value.field == field


def test_options_that_end_too_early_are_passed_over() -> None:
    block = bytes.fromhex("010000001800000065000000000000000200090018000000")
    assert list(read_capture(FILE[:28] + block)) == []


def test_what_is_not_ours_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LocalProtocolError, match='no link "c--d"'):
        WRITER.packet(Packet(0, "c--d", b""))
    with pytest.raises(LocalProtocolError, match="65,536 octets"):
        WRITER.packet(Packet(0, "a--b", bytes(65_536)))
    with pytest.raises(LocalProtocolError, match="2 links"):
        CaptureWriter(["a--b", "a--b"])
    monkeypatch.setattr(capture, "MAX_INTERFACES", 1)
    with pytest.raises(LocalProtocolError, match="2 links"):
        CaptureWriter(["a--b", "b--c"])
    with pytest.raises(DecodeError) as caught:
        list(read_capture(FILE))
    assert caught.value.field == "interfaces"


@pytest.mark.parametrize("size", [1, 3, 7, 64, 4096])
def test_pieces_of_any_size_have_the_same_packets(size: int) -> None:
    for file in (FILE, big_endian(), FILE + FILE):
        reader = CaptureReader()
        pieces = [file[at : at + size] for at in range(0, len(file), size)]
        assert [one for piece in pieces for one in reader.receive(piece)] == [*read_capture(file)]
        reader.finish()


@pytest.mark.parametrize(("octets", "field"), list(cut()))
def test_pieces_are_refused_at_the_same_place(octets: bytes, field: str) -> None:
    def read(pieces: list[bytes]) -> DecodeError | None:
        reader = CaptureReader()
        try:
            for piece in pieces:
                list(reader.receive(piece))
            reader.finish()
        except DecodeError as error:
            return error
        return None

    whole, single = read([octets]), read([octets[at : at + 1] for at in range(len(octets))])
    assert whole
    assert single
    assert (whole.offset, whole.field) == (single.offset, single.field)
    assert whole.field == field


def test_a_block_has_a_limit() -> None:
    def head(size: int) -> bytes:
        return FILE[:28] + b"\5\0\0\0" + size.to_bytes(4, "little")

    reader = CaptureReader()
    assert list(reader.receive(head(MAX_BLOCK) + bytes(4))) == []
    assert list(reader.receive(bytes(MAX_BLOCK - 12) + WRITER.header()[28:])) == []
    reader.finish()
    with pytest.raises(DecodeError, match=r"block length: value 16777220, limit 16777216"):
        list(CaptureReader().receive(head(MAX_BLOCK + 4) + bytes(4)))
