"""Messages of COPS: octets, order of objects, what is no message, and the stream they come in."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.mplamps.cops import (
    MAX_MESSAGE,
    ClientOpen,
    Code,
    Decision,
    DeleteRequest,
    Report,
    Request,
    ServerAddress,
    Splitter,
    SynchronizeRequest,
    decode_message,
    encode_message,
    inner_objects,
)
from powertcp.mplamps.cops.wire import MAX_HANDLE, MAX_INNER, MAX_PEP_ID
from powertcp.mplamps.power import PowerObject, TariffObject
from powertcp.registry import Reason
from tests.cops_messages import (
    ERROR_SPEC,
    HANDLE,
    MESSAGES,
    METER,
    OFFERS,
    PATH_OBJECTS,
    POLICEMAN,
    QUOTE,
)

OCTETS = {name: encode_message(message) for name, message in MESSAGES.items()}
HANDLE_OBJECT = "000801010000002a"
CONTEXT_OBJECT = "0008020100010001"


def made(operation: int, body: str, flags: int = 0x10, client_type: int = 1) -> bytes:
    octets = bytes.fromhex(body)
    head = bytes([flags, operation]) + client_type.to_bytes(2, "big")
    return head + (8 + len(octets)).to_bytes(4, "big") + octets


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04")
@pytest.mark.parametrize("name", list(MESSAGES))
def test_each_message_closes(name: str) -> None:
    octets = OCTETS[name]
    assert decode_message(octets) == MESSAGES[name]
    assert len(octets) % 4 == 0
    assert encode_message(decode_message(memoryview(octets))) == octets


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04")
def test_octets_are_those_of_the_rfc() -> None:
    assert OCTETS["open again"].hex() == (
        "1006000100000024" "00100b0131302e302e302e3134000000" "000c0e010a00000900000cd8"
    )  # fmt: skip
    assert OCTETS["open"][8:].hex() == "00100b0131302e302e302e3400000000", "a zero is always there"
    assert OCTETS["accept"].hex() == "100700010000001800080a010000001e00080f010000003c"
    assert OCTETS["install"].hex() == (
        f"11020001{8 + 24 + 40:08x}" + HANDLE_OBJECT + CONTEXT_OBJECT + "0008060100010000"
        + "00280603" + QUOTE.to_wire().hex()
    )  # fmt: skip
    assert OCTETS["new price"][0] == 0x10
    assert OCTETS["remove"][24:32].hex() == "0008060100020001"
    assert OCTETS["request"][:40].hex() == (
        f"10010001{len(OCTETS['request']):08x}" + HANDLE_OBJECT + CONTEXT_OBJECT
        + "000c03010a00000500000004" + f"{4 + len(PATH_OBJECTS):04x}0901"
    )  # fmt: skip
    assert OCTETS["meter"].hex() == (
        f"10030001{8 + 16 + 44:08x}" + HANDLE_OBJECT + "00080c0100030000" + "002c0901"
        + METER.to_wire().hex()
    )  # fmt: skip
    assert OCTETS["keep alive"].hex() == "1009000000000008"
    assert OCTETS["complete one"].hex() == "100a000100000010000701016f646400"


@pytest.mark.requirement("MPLA-6-04", "MPLA-4.4-05")
def test_the_objects_inside_are_those_of_rsvp_and_ours() -> None:
    path = inner_objects(PATH_OBJECTS)
    assert [one.number for one in path[:4]] == [23, 1, 3, 5]
    assert b"".join(one.octets for one in path) == PATH_OBJECTS
    ours = [one.private for one in path if one.private]
    assert {PowerObject, TariffObject} <= {type(one) for one in ours}
    assert [one.private for one in inner_objects(METER.to_wire())] == [METER]
    decision = decode_message(OCTETS["remove"])
    assert isinstance(decision, Decision)
    error, *offers = inner_objects(decision.data)
    assert (error.number, error.c_type, error.octets) == (6, 1, ERROR_SPEC)
    assert [one.private for one in offers] == OFFERS
    assert inner_objects(b"") == ()


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        ("0004", Reason.BAD_LENGTH),
        ("00030101", Reason.BAD_LENGTH),
        ("0006010100000000", Reason.BAD_LENGTH),
        ("000c010100000000", Reason.BAD_LENGTH),
        ("000cfc0200007ed900000001", Reason.BAD_OPTION),
        ("00040101" * (MAX_INNER + 1), Reason.LIMIT),
    ],
)
def test_what_is_no_object_inside(octets: str, code: Reason) -> None:
    with pytest.raises(DecodeError) as caught:
        inner_objects(bytes.fromhex(octets))
    assert caught.value.code == code


def test_there_may_be_as_many_objects_inside_as_the_limit() -> None:
    assert len(inner_objects(bytes.fromhex("00040101" * MAX_INNER))) == MAX_INNER


CLOSED_ERRORS: list[tuple[str, bytes, Reason]] = [
    ("nothing", b"", Reason.BAD_LENGTH),
    ("short header", OCTETS["keep alive"][:7], Reason.BAD_LENGTH),
    ("version 2", made(9, "", 0x20, 0), Reason.BAD_VERSION),
    ("other flags", made(2, "", 0x12), Reason.BAD_OPTION),
    ("a solicited request", made(1, "", 0x11), Reason.BAD_OPTION),
    ("op code 11", made(11, ""), Reason.UNSUPPORTED_TYPE),
    ("op code 0", made(0, ""), Reason.UNSUPPORTED_TYPE),
    ("client type 2", made(6, "", client_type=2), Reason.UNSUPPORTED_TYPE),
    ("client type 0 of a request", made(1, "", client_type=0), Reason.UNSUPPORTED_TYPE),
    ("keep alive of a client", made(9, ""), Reason.UNSUPPORTED_TYPE),
    ("longer than said", OCTETS["open"] + bytes(4), Reason.BAD_LENGTH),
    ("shorter than said", OCTETS["open"][:-4], Reason.BAD_LENGTH),
    ("an object past the end", made(5, "000c01010000002a"), Reason.BAD_LENGTH),
    ("an object of 3 octets", made(5, "0003010100000000"), Reason.BAD_LENGTH),
    ("no handle", made(1, ""), Reason.STATE),
    ("an empty handle", made(5, "00040101"), Reason.BAD_OPTION),
    ("no context", made(1, HANDLE_OBJECT), Reason.STATE),
    ("context first", made(1, CONTEXT_OBJECT + HANDLE_OBJECT), Reason.STATE),
    ("no interface", made(1, HANDLE_OBJECT + CONTEXT_OBJECT), Reason.STATE),
    ("interface too short", made(1, HANDLE_OBJECT + CONTEXT_OBJECT + "000803010a000005"),
     Reason.BAD_OPTION),
    ("command 3", made(2, HANDLE_OBJECT + CONTEXT_OBJECT + "0008060100030000"), Reason.BAD_OPTION),
    ("two decisions", made(2, HANDLE_OBJECT + (CONTEXT_OBJECT + "0008060100010000") * 2),
     Reason.UNSUPPORTED_OPTION),
    ("report type 4", made(3, HANDLE_OBJECT + "00080c0100040000"), Reason.BAD_OPTION),
    ("report type 0", made(3, HANDLE_OBJECT + "00080c0100000000"), Reason.BAD_OPTION),
    ("an unknown object", made(5, HANDLE_OBJECT + "00041101"), Reason.UNSUPPORTED_OPTION),
    ("a PEPID without zero", made(6, "00080b0130303030"), Reason.BAD_OPTION),
    ("a PEPID of nothing", made(6, "00080b0100000000"), Reason.BAD_OPTION),
    ("a PEPID that is no text", made(6, "00080b0130ff0000"), Reason.BAD_OPTION),
    ("a PEPID that goes on", made(6, "00080b0130003000"), Reason.BAD_OPTION),
    ("a PEPID too long", made(6, "01040b01" + "30" * 256), Reason.BAD_OPTION),
    ("no timer", made(7, ""), Reason.STATE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("octets", "code"), [row[1:] for row in CLOSED_ERRORS], ids=[row[0] for row in CLOSED_ERRORS]
)
def test_what_is_no_message(octets: bytes, code: Reason) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_message(octets)
    assert caught.value.code == code


def test_what_others_send_and_we_do_not_need() -> None:
    integrity = "001810010000000100000001" + "00" * 12
    signed = made(9, integrity, client_type=0)
    assert decode_message(signed) == MESSAGES["keep alive"]
    out = OCTETS["request"][8:36].hex() + "000c04010a00000300000005"
    halves = "0008090100040101" * 2
    request = decode_message(made(1, out + halves))
    assert isinstance(request, Request)
    assert request.info.hex() == "00040101" * 2
    named = made(6, "00080b0130000000" + "00080902000000ff")
    assert decode_message(named) == ClientOpen(pep_id="0")
    with pytest.raises(DecodeError):
        decode_message(made(9, integrity + "00041101", client_type=0))


@pytest.mark.parametrize(
    "message",
    [
        SynchronizeRequest(handle=b""),
        SynchronizeRequest(handle=bytes(MAX_HANDLE + 1)),
        ClientOpen(pep_id=""),
        ClientOpen(pep_id="x" * (MAX_PEP_ID + 1)),
        ClientOpen(pep_id="Bogenstraße"),
        ClientOpen(pep_id="a\0b"),
        ClientOpen(pep_id="a", last_pdp=ServerAddress(IPv4Address(1), 65_536)),
        DeleteRequest(handle=HANDLE, reason=Code(65_536)),
        replace(MESSAGES["meter"], info=bytes(65_532)),  # type: ignore[arg-type]
        replace(MESSAGES["request"], info=bytes(65_528)),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_is_not_encoded(message: Report) -> None:
    with pytest.raises(LocalProtocolError):
        encode_message(message)


def test_the_greatest_of_each() -> None:
    for message in (
        SynchronizeRequest(handle=bytes(MAX_HANDLE)),
        ClientOpen(pep_id="x" * MAX_PEP_ID, last_pdp=POLICEMAN),
        Report(handle=HANDLE, kind=MESSAGES["meter"].kind, info=bytes(65_508)),  # type: ignore[union-attr]
    ):
        octets = encode_message(message)
        assert decode_message(octets) == message
    assert len(octets) == MAX_MESSAGE


# ---- the stream ---------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 300), min_size=1))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]) -> None:
    stream = b"".join(OCTETS.values())
    splitter = Splitter()
    found: list[bytes] = []
    at = 0
    while at < len(stream):
        for size in cuts:
            found += splitter.receive(stream[at : at + size])
            at += size
    assert found == list(OCTETS.values())


@pytest.mark.parametrize(
    "header",
    ["2009000000000008", "1009000000000004", "100900000000000a", "1009000000010004"],
)
def test_what_comes_after_a_header_that_is_none_is_lost(header: str) -> None:
    good = OCTETS["keep alive"]
    splitter = Splitter()
    messages = splitter.receive(good + bytes.fromhex(header) + good)
    assert next(messages) == good
    with pytest.raises(DecodeError):
        next(messages)
    for _ in range(2):
        with pytest.raises(DecodeError):
            list(splitter.receive(good))


def test_the_longest_message_passes_the_splitter() -> None:
    octets = encode_message(replace(MESSAGES["meter"], info=bytes(65_508)))  # type: ignore[arg-type]
    splitter = Splitter()
    assert list(splitter.receive(octets[:-1])) == []
    assert list(splitter.receive(octets[-1:])) == [octets]


# ---- hostile octets -----------------------------------------------------------------------------


@given(st.sampled_from(sorted(OCTETS)), st.lists(st.tuples(st.integers(0), st.integers(0, 255))))
def test_changed_octets_decode_or_raise_the_one_error(
    name: str, changes: list[tuple[int, int]]
) -> None:
    octets = bytearray(OCTETS[name])
    for at, value in changes:
        octets[at % len(octets)] = value
    try:
        message = decode_message(octets)
    except DecodeError:
        return
    assert decode_message(encode_message(message)) == message
    info = getattr(message, "info", b"") or getattr(message, "data", b"")
    try:
        assert b"".join(one.octets for one in inner_objects(info)) == info
    except DecodeError:
        return


@given(st.binary(max_size=200))
def test_any_octets_decode_or_raise_the_one_error(octets: bytes) -> None:
    for operation in range(12):
        body = octets[: len(octets) // 4 * 4]
        try:
            decode_message(made(operation, body.hex()))
        except DecodeError:
            continue
    try:
        inner_objects(octets)
        list(Splitter().receive(octets))
    except DecodeError:
        return
