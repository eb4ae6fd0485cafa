import pytest

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.wire.buffer import KindRule, Reader, Writer, walk

ELECTIVE = KindRule(2, 255, known=False)
CRITICAL = KindRule(2, 255, known=False, critical=True)
RULES = [CRITICAL if 128 <= kind <= 252 else ELECTIVE for kind in range(256)]
RULES[2] = KindRule(4, 4)
RULES[3] = KindRule(3, 3, times=2)


def refused(area: bytes, base: int = 20) -> tuple[int, int, int]:
    with pytest.raises(DecodeError) as caught:
        walk(area, base, RULES)
    return caught.value.code, caught.value.value, caught.value.offset


def test_reader_reads_in_order_and_never_past_the_end() -> None:
    reader = Reader(memoryview(b"\x01\xff\xfe\x00\x02tail"), offset=100)
    assert reader.unsigned(1, "a") == 1
    assert reader.signed(2, "b") == -2
    assert (reader.offset, reader.left) == (103, 6)
    with pytest.raises(DecodeError) as caught:
        reader.take(7, "c")
    assert (caught.value.offset, caught.value.code, caught.value.value) == (103, 502, 6)
    with pytest.raises(DecodeError):
        reader.take(-1, "c")
    with pytest.raises(DecodeError):
        reader.finish("layout")
    assert reader.unsigned(2, "c") == 2
    assert reader.rest() == b"tail"
    reader.finish("layout")


def test_writer_refuses_what_does_not_fit() -> None:
    writer = Writer(8)
    writer.unsigned(255, 1)
    writer.signed(-1, 2)
    writer.pad(4)
    assert writer.octets() == b"\xff\xff\xff\x00"
    for value in (-1, 256):
        with pytest.raises(LocalProtocolError):
            writer.unsigned(value, 1)
    for value in (-129, 128):
        with pytest.raises(LocalProtocolError):
            writer.signed(value, 1)
    writer.put(b"1234")
    with pytest.raises(LocalProtocolError):
        writer.put(b"5")
    assert len(writer) == 8


@pytest.mark.requirement("PTCP-2.3-02")
def test_walk_returns_kind_offset_and_value() -> None:
    area = bytes.fromhex("01 0204abcd 0d02 00000000")
    assert walk(area, 20, RULES) == [(2, 21, b"\xab\xcd"), (13, 25, b"")]
    assert walk(b"", 20, RULES) == []


@pytest.mark.requirement("PTCP-2.3-02")
@pytest.mark.parametrize(
    ("area", "offset"),
    [("0d", 20), ("0d01", 20), ("0d00", 20), ("0d03", 20), ("0203aa", 20), ("01 0205aabbcc", 21)],
)
def test_walk_refuses_a_wrong_length(area: str, offset: int) -> None:
    assert refused(bytes.fromhex(area)) == (503, offset, offset)


@pytest.mark.requirement("PTCP-2.3-02")
def test_walk_refuses_octets_after_end_and_names_the_end() -> None:
    assert refused(bytes.fromhex("01 00 00 01")) == (503, 21, 23)


@pytest.mark.requirement("PTCP-2.3-02", "PTCP-2.3-03")
def test_walk_refuses_a_kind_too_often() -> None:
    assert refused(bytes.fromhex("0d02 0d02")) == (503, 22, 22)
    assert len(walk(bytes.fromhex("0303aa 0303aa"), 20, RULES)) == 2
    assert refused(bytes.fromhex("0303aa 0303aa 0303aa")) == (508, 3, 26)


@pytest.mark.requirement("PTCP-2.3-01")
def test_walk_refuses_an_unknown_critical_kind_with_the_kind_as_value() -> None:
    assert refused(bytes.fromhex("8302")) == (505, 131, 20)


@pytest.mark.requirement("PTCP-2.3-03", "PTCP-14-01")
def test_walk_keeps_its_caps_at_the_limit_and_one_above() -> None:
    assert walk(b"\x01" * 32, 20, RULES) == []
    assert refused(b"\x01" * 33) == (508, 33, 52)
    assert walk(bytes(512), 20, RULES) == []
    assert refused(bytes(513)) == (508, 513, 20)
