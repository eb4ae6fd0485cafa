import pytest

from powertcp.wire import schema


def refused(octets: bytes) -> tuple[int, int, int]:
    with pytest.raises(schema.Rejected) as caught:
        schema.parse_segment(octets)
    return caught.value.code, caught.value.value, caught.value.offset


def segment(kind: int, flags: int = 0, area: str = "", payload: str = "", flow: int = 1) -> bytes:
    options, body = bytes.fromhex(area), bytes.fromhex(payload)
    options += bytes(-len(options) % 4)
    head = bytes((0x50, 0x4F, 1, 5 + len(options) // 4, kind, flags, 0, len(body)))
    return head + flow.to_bytes(4, "big") + bytes(8) + options + body


@pytest.mark.requirement("PTCP-2.2-03")
def test_a_segment_is_header_options_and_payload() -> None:
    parsed = schema.parse_segment(segment(3, area="01 0406 00000007", payload="00" * 15 + "01"))
    assert parsed.type.name == "CREDIT"
    ((option, fields),) = parsed.options
    assert (option.kind, option.offset, fields.contract) == (4, 21, 7)
    assert parsed.payload.demand_mw == 1
    assert schema.parse_segment(segment(0x90, payload="ff")).type is schema.SKIPPED


@pytest.mark.requirement("PTCP-2.1-03", "PTCP-2.1-04", "PTCP-2.2-01", "PTCP-2.2-02")
def test_header_and_payload_refusals() -> None:
    assert refused(b"PO") == (502, 2, 0)
    assert refused(segment(1, 2) + b"x") == (502, 21, 20)
    assert refused(b"po" + segment(1, 2)[2:])[:2] == (500, 0x706F)
    assert refused(segment(1, 3)) == (506, 3, 5)
    assert refused(segment(0x7F)) == (504, 0x7F, 4)
    assert refused(segment(4)) == (502, 0, 6)
    assert refused(segment(2, payload="00" * 17)) == (502, 17, 6)
    assert refused(segment(10, payload="00" * 16)) == (506, 1, 8)
    assert refused(segment(14, payload="04")) == (506, 4, 20)


@pytest.mark.requirement("PTCP-3.1-03")
def test_a_block_that_is_not_exactly_as_long_as_it_says() -> None:
    assert refused(segment(2, payload="00000000 0001 0002" + "00" * 8))[:2] == (502, 16)
    assert refused(segment(2, payload="00000000 0001 0001" + "00" * 16))[:2] == (502, 24)
    assert refused(segment(2, payload="00000000 0000 0001" + "00" * 8))[:2] == (502, 16)


@pytest.mark.requirement("PTCP-2.3-01", "PTCP-2.3-02", "PTCP-2.3-03", "PTCP-2.3-05")
@pytest.mark.parametrize(
    ("area", "code", "value"),
    [
        ("00000001", 503, 20),
        ("0d01", 503, 20),
        ("0d05", 503, 20),
        ("0d00", 503, 20),
        ("8402", 505, 132),
        ("0203 aa", 503, 20),
        ("0d02 0d02", 503, 22),
        ("0204 03ff", 503, 20),
        ("0610" + "00" * 14, 503, 20),
        ("8203 20", 503, 20),
        ("01" * 33, 508, 33),
        (("0312 44" + "00" * 15) * 17, 508, 17),
    ],
)
def test_option_refusals(area: str, code: int, value: int) -> None:
    assert refused(segment(1, 2, area))[:2] == (code, value)


@pytest.mark.requirement("PTCP-2.3-03")
def test_an_area_longer_than_any_header_can_say() -> None:
    with pytest.raises(schema.Rejected):
        schema.cut_options(bytes(513), 20)
    assert schema.cut_options(bytes(512), 20) == []


def test_the_size_of_what_has_none_is_what_is_left() -> None:
    names = [schema.size_of(subcon, 9) for subcon in schema.BLOCK.struct.subcons]
    assert names == [4, 1, 1, 2, 9]


@pytest.mark.requirement("PTCP-1-05")
@pytest.mark.parametrize(("head", "value"), [("84", 132), ("74", 116), ("7c", 124), ("04", 4)])
def test_a_profile_of_another_version_or_a_reserved_type(head: str, value: int) -> None:
    octets = bytes.fromhex(head) + bytes(15)
    with pytest.raises(schema.Rejected) as caught:
        schema.parse_payload(schema.PROFILE, octets, 0)
    assert (caught.value.code, caught.value.value) == (503, value)
    # in a segment the option is named by its place
    assert refused(segment(1, 2, "0312" + octets.hex())) == (503, 20, 20)


PAGE = bytes([1, 0, 0x55, 0]) + bytes(376)


@pytest.mark.requirement("LEDG-6-07")
@pytest.mark.parametrize(("at", "octet"), [(0, 2), (1, 32), (2, 0x56), (3, 1), (52, 1), (124, 1)])
def test_a_receipt_with_a_wrong_field_is_rejected(at: int, octet: int) -> None:
    assert schema.parse_receipt(PAGE).clock == 0x55
    with pytest.raises(schema.Rejected):
        schema.parse_receipt(PAGE[:at] + bytes([octet]) + PAGE[at + 1 :])
    with pytest.raises(schema.Rejected) as caught:
        schema.parse_receipt(PAGE[:-1])
    assert (caught.value.code, caught.value.value) == (502, 379)
