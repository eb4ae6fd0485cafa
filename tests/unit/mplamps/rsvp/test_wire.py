"""Messages of RSVP: header, checksum, order and number of objects, what is dropped or refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.mplamps.power import MeterObject, PowerObject, TariffKind, TariffObject
from powertcp.mplamps.rsvp import (
    Bundle,
    ErrorAnswer,
    ForeignObject,
    Hop,
    Key,
    Message,
    Path,
    PathErr,
    Rejected,
    Resv,
    ResvErr,
    RouteHop,
    Sender,
    Srefresh,
    decode_message,
    encode_message,
)
from powertcp.profile import ProfileType
from tests.rsvp_messages import (
    GOLDEN_PATH,
    GOLDEN_RESV,
    MESSAGES,
    PATH,
    QUOTE,
    RESV,
    entity,
    message,
    node,
    objects,
    profile,
)

KEY = Key(0x0102_0304_0506, b"sixteen octets and more")
KEYS = {KEY.key_id: KEY.secret}


def said(octets: bytes) -> Message:
    return decode_message(octets).message


def dropped(octets: bytes) -> tuple[int, str]:
    with pytest.raises(DecodeError) as caught:
        decode_message(octets)
    return caught.value.code, caught.value.field


def fault(octets: bytes) -> tuple[int, int]:
    rejected = said(octets)
    assert isinstance(rejected, Rejected)
    return rejected.fault.code, rejected.fault.value


def with_object(octets: bytes, *parts: bytes, at: int | None = None) -> bytes:
    """Return a message with more objects, at the end or before the one with this index."""
    there = objects(octets)
    here = len(there) if at is None else at
    return message(octets[1], [*there[:here], *parts, *there[here:]])


def without(octets: bytes, number: int, kind: int | None = None) -> bytes:
    left = [one for one in objects(octets) if one[2] != number or kind not in (None, one[3])]
    return message(octets[1], left)


def instead(octets: bytes, number: int, part: bytes, kind: int | None = None) -> bytes:
    made = [part if one[2] == number and kind in (None, one[3]) else one for one in objects(octets)]
    return message(octets[1], made)


@pytest.mark.requirement("MPLA-4.1-02", "MPLA-4.2-01")
def test_the_octets_printed_in_the_draft_are_these() -> None:
    assert encode_message(PATH) == GOLDEN_PATH
    assert encode_message(RESV) == GOLDEN_RESV
    assert said(GOLDEN_PATH) == PATH
    assert said(GOLDEN_RESV) == RESV


@pytest.mark.requirement("MPLA-4.2-01")
@pytest.mark.parametrize("name", MESSAGES)
def test_each_type_says_again_what_it_said(name: str) -> None:
    octets = encode_message(MESSAGES[name], ttl=61)
    received = decode_message(octets)
    assert received == (MESSAGES[name], 61, None, None)
    assert encode_message(MESSAGES[name], 61) == octets


# --- header -----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.1-02")
def test_a_checksum_of_0_is_none_and_any_other_must_be_right() -> None:
    parts = objects(GOLDEN_PATH)
    assert said(message(1, parts, checksum=0)) == PATH
    assert dropped(message(1, parts, checksum=1)) == (503, "checksum")
    assert dropped(GOLDEN_PATH[:4] + b"\x3f" + GOLDEN_PATH[5:]) == (503, "checksum")


@pytest.mark.requirement("MPLA-4.1-02")
def test_a_checksum_that_would_be_0_is_sent_as_all_ones() -> None:
    low = next(low for low in range(1 << 16)
               if encode_message(replace(PATH, refresh_ms=low))[2:4] == b"\xff\xff")  # fmt: skip
    assert said(encode_message(replace(PATH, refresh_ms=low))) == replace(PATH, refresh_ms=low)


@pytest.mark.requirement("MPLA-4.1-02", "MPLA-4.2-02")
@pytest.mark.parametrize(
    ("octets", "code", "field"),
    [
        (b"", 502, "header"),
        (GOLDEN_PATH[:7], 502, "header"),
        (b"\x21" + GOLDEN_PATH[1:], 501, "version"),
        (GOLDEN_PATH[:-4], 502, "length"),
        (GOLDEN_PATH + bytes(4), 502, "length"),
        (b"\x11\x14\0\0\x40\0\0\x0a" + bytes(2), 502, "length"),
        (message(8, []), 504, "type"),
        (message(0, []), 504, "type"),
    ],
)
def test_a_header_that_is_none_is_dropped(octets: bytes, code: int, field: str) -> None:
    assert dropped(octets) == (code, field)


@pytest.mark.requirement("MPLA-4.1-01")
def test_1472_octets_are_sent_and_4096_accepted() -> None:
    numbers = tuple(range(364))
    assert len(encode_message(Srefresh(epoch=1, numbers=numbers))) == 1472
    with pytest.raises(LocalProtocolError, match="1,524 octets, limit 1,472"):
        encode_message(Srefresh(epoch=1, numbers=numbers), key=KEY)
    with pytest.raises(LocalProtocolError, match="365 message ids"):
        encode_message(Srefresh(epoch=1, numbers=(*numbers, 1)))
    room = 4096 - len(GOLDEN_PATH) - 4
    assert len(with_object(GOLDEN_PATH, entity(13, 2, bytes(room)))) == 4096
    assert isinstance(said(with_object(GOLDEN_PATH, entity(13, 2, bytes(room)))), Path)
    assert dropped(with_object(GOLDEN_PATH, entity(13, 2, bytes(room + 4)))) == (508, "length")


def test_a_list_has_364_numbers_at_most() -> None:
    longest = entity(25, 1, bytes(4 * 365))
    assert said(message(15, [longest])) == Srefresh(epoch=0, numbers=(0,) * 364)
    assert dropped(message(15, [entity(25, 1, bytes(4 * 366))])) == (508, "MESSAGE_ID_LIST")
    assert dropped(message(15, [entity(25, 1, bytes(4))])) == (508, "MESSAGE_ID_LIST")


def test_what_does_not_fit_its_field_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError, match="Path"):
        encode_message(replace(PATH, refresh_ms=1 << 32))
    with pytest.raises(LocalProtocolError, match="256 octets, limit 255"):
        encode_message(replace(PATH, attribute=PATH.attribute._replace(name="é" * 128)))
    with pytest.raises(LocalProtocolError, match="0 circuits"):
        encode_message(replace(RESV, circuits=()))
    error = MESSAGES["path-err-offers"]
    assert isinstance(error, PathErr)
    with pytest.raises(LocalProtocolError, match="9 offers"):
        encode_message(replace(error, offers=error.offers[:1] * 9))


# --- objects ----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.2-01")
def test_any_order_says_the_same() -> None:
    parts = objects(GOLDEN_PATH)
    assert said(message(1, parts[::-1])) == PATH
    assert said(message(1, parts[5:] + parts[:5])) == PATH
    head, circuit = objects(GOLDEN_RESV)[:6], objects(GOLDEN_RESV)[6:]
    assert said(message(2, circuit + head)) == RESV
    assert said(message(2, [*head, circuit[1], circuit[0], *circuit[:1:-1]])) == RESV


@pytest.mark.requirement("MPLA-4.2-01")
def test_private_objects_belong_to_the_sender_or_the_label_before_them() -> None:
    two = MESSAGES["resv-two"]
    assert isinstance(two, Resv)
    parts = objects(encode_message(two))
    first = next(at for at, one in enumerate(parts) if one[2] == 10)
    second = next(at for at, one in enumerate(parts) if at > first and one[2] == 10)
    exchanged = parts[:first] + parts[second:] + parts[first:second]
    assert said(message(2, exchanged)) == replace(two, circuits=two.circuits[::-1])
    labels_first = list(parts)
    for at in (first, second):
        labels_first[at : at + 2] = parts[at + 1], parts[at]
    assert said(message(2, labels_first)) == two
    power = next(one for one in parts if one[2:4] == b"\xfc\x01")
    nobodys = [one for one in parts[:first] if one is not power]
    assert dropped(message(2, [*nobodys, power, *parts[first:]])) == (506, "flow descriptor")


@pytest.mark.requirement("MPLA-4.2-02")
@pytest.mark.parametrize("length", [0, 3, 5, 6, 16])
def test_an_object_of_a_wrong_length_drops_the_message(length: int) -> None:
    last = length.to_bytes(2, "big") + GOLDEN_PATH[-34:]
    parts = objects(GOLDEN_PATH)[:-1]
    octets = message(1, [*parts, last if length != 16 else b"\0\x10\x05\x01\0\0\0\0"])
    assert dropped(octets) == (502, "length")


@pytest.mark.requirement("MPLA-4.2-02")
def test_what_stands_twice_drops_the_message() -> None:
    for octets in (GOLDEN_PATH, GOLDEN_RESV):
        parts = objects(octets)
        for at in range(len(parts)):
            assert dropped(message(octets[1], [*parts[: at + 1], *parts[at:]]))[0] == 506


@pytest.mark.requirement("MPLA-4.2-02")
@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_missing_drops_the_message_or_is_answered(name: str) -> None:
    octets = encode_message(MESSAGES[name])
    dropping = {1, 3, 5, 6, 8, 9, 11, 12, 16, 19, 22, 25, 35, 207}
    for one in objects(octets):
        lesser = without(octets, one[2], one[3])
        if one[2] in dropping or (one[2] == 10 and octets[1] == 2):
            assert dropped(lesser)[0] == 506
        elif one[2] == 252 and one[3] != 3 and octets[1] < 3:
            assert fault(lesser) == (252, 503)


@pytest.mark.requirement("MPLA-4.2-02")
def test_an_object_of_another_message_drops_it() -> None:
    hello = encode_message(MESSAGES["hello-request"])
    assert dropped(with_object(hello, objects(GOLDEN_PATH)[1])) == (506, "class")
    assert dropped(with_object(GOLDEN_PATH, entity(6, 1, bytes(8)))) == (506, "class")
    assert dropped(with_object(GOLDEN_PATH, entity(16, 1, bytes(4)))) == (506, "class")
    tear = encode_message(MESSAGES["path-tear"])
    assert dropped(with_object(tear, QUOTE.to_wire())) == (506, "TariffObject")
    assert dropped(message(13, [])) == (506, "class")


@pytest.mark.requirement("MPLA-4.3-01")
def test_unknown_classes_are_refused_ignored_or_passed_on() -> None:
    low, ignored, kept = entity(99, 7, b"four"), entity(140, 1, b"four"), entity(200, 3, b"four")
    assert fault(with_object(GOLDEN_PATH, low)) == (13, 99 << 8 | 7)
    assert fault(with_object(GOLDEN_RESV, low, at=0)) == (13, 99 << 8 | 7)
    assert said(with_object(GOLDEN_PATH, ignored)) == PATH
    assert said(with_object(GOLDEN_PATH, entity(0, 9, b"four"))) == PATH
    passed = replace(PATH, others=(ForeignObject(200, 3, b"four"),))
    assert said(with_object(GOLDEN_PATH, kept, at=0)) == passed
    assert encode_message(passed) == with_object(GOLDEN_PATH, kept)
    tear = encode_message(MESSAGES["path-tear"])
    assert dropped(with_object(tear, low)) == (505, "class")


@pytest.mark.requirement("MPLA-4.3-01")
def test_adspec_and_policy_data_are_passed_on_last() -> None:
    adspec, policy = entity(13, 2, bytes(8)), entity(14, 1, b"data")
    octets = with_object(GOLDEN_PATH, adspec, policy, policy, at=8)
    passed = said(octets)
    assert isinstance(passed, Path)
    assert [one.number for one in passed.others] == [13, 14, 14]
    assert encode_message(passed) == with_object(GOLDEN_PATH, adspec, policy, policy)


@pytest.mark.requirement("MPLA-4.3-01")
def test_a_known_class_with_an_unknown_c_type_is_refused() -> None:
    assert fault(instead(GOLDEN_PATH, 1, entity(1, 1, bytes(8)))) == (14, 1 << 8 | 1)
    assert fault(instead(GOLDEN_PATH, 19, entity(19, 2, bytes(8)))) == (14, 19 << 8 | 2)
    assert fault(with_object(GOLDEN_RESV, entity(16, 2, bytes(4)), at=7)) == (14, 16 << 8 | 2)
    assert fault(instead(GOLDEN_RESV, 10, entity(10, 1, bytes(8)))) == (14, 10 << 8 | 1)
    both = with_object(GOLDEN_PATH, entity(1, 1, bytes(8)))
    assert dropped(both) == (506, "class")
    assert dropped(message(15, [entity(25, 2, bytes(8))])) == (505, "class")


@pytest.mark.requirement("MPLA-4.3-05")
def test_a_route_is_of_32_addresses_at_most() -> None:
    hop = bytes.fromhex("01080a0000042000")
    octets = instead(GOLDEN_PATH, 20, entity(20, 1, hop * 32))
    assert said(octets) == replace(PATH, route=(RouteHop(node(4)),) * 32)
    label = bytes.fromhex("0308000100000190")
    for content in (hop * 33, b"", hop + bytes(4), b"\x02" + hop[1:], hop[:6] + b"\x18\0", label):
        assert fault(instead(GOLDEN_PATH, 20, entity(20, 1, content))) == (24, 1)
    recorded = [hop * 33, label, hop + label * 2, b"\x01\x04\0\0" + hop[4:], hop + bytes(4), b""]
    for content in (
        *recorded,
        hop + label[:4] + b"\0\x10\0\0",
        hop + label[:3] + b"\2" + label[4:],
    ):
        assert fault(with_object(GOLDEN_PATH, entity(21, 1, content))) == (24, 1)
        assert fault(with_object(GOLDEN_RESV, entity(21, 1, content))) == (24, 1)
    for route in (PATH.route * 9, ()):
        with pytest.raises(LocalProtocolError, match="a route has 1 to 32"):
            encode_message(replace(PATH, route=route or PATH.route * 9))


# --- private objects --------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.4-01")
def test_private_objects_of_others_are_passed_on() -> None:
    theirs, later = entity(252, 1, bytes(8)), entity(252, 9, b"\0\0\x7e\xd9later   ")
    octets = with_object(GOLDEN_PATH, theirs, later, at=0)
    passed = said(octets)
    assert isinstance(passed, Path)
    assert passed.others == (
        ForeignObject(252, 1, bytes(8)), ForeignObject(252, 9, b"\0\0\x7e\xd9later   "),
    )  # fmt: skip
    assert encode_message(passed) == with_object(GOLDEN_PATH, theirs, later)


OFFER = TariffObject.make(TariffKind.OFFER, 1, "EUR")


@pytest.mark.requirement("MPLA-4.4-02", "MPLA-4.4-04", "MPLA-4.4-06")
@pytest.mark.parametrize(
    ("octets", "part"),
    [
        (GOLDEN_PATH, PowerObject.make(profile(ProfileType.GRANT, 1)).to_wire()),
        (GOLDEN_RESV, PowerObject.make(profile(ProfileType.REQUEST, 1)).to_wire()),
        (GOLDEN_PATH, QUOTE.to_wire()),
        (GOLDEN_RESV, OFFER.to_wire()),
        (GOLDEN_PATH, entity(252, 2, b"\0\0\x7e\xd9\0\0\0\x0f")),
        (GOLDEN_PATH, entity(252, 2, b"\0\0\x7e\xd9\0\x10\0\0")),
        (GOLDEN_PATH, entity(252, 1, b"\0\0\x7e\xd9" + bytes(16))),
        (GOLDEN_RESV, entity(252, 3, b"\0\0\x7e\xd9" + bytes(28))),
        (GOLDEN_PATH, entity(252, 1, b"\0\0\x7e\xd9")),
        (GOLDEN_PATH, entity(252, 1, b"")),
    ],
)
def test_a_bad_private_object_is_refused_with_503(octets: bytes, part: bytes) -> None:
    assert fault(instead(octets, 252, part, part[3])) == (252, 503)


@pytest.mark.requirement("MPLA-4.4-05")
def test_a_meter_has_no_place_in_rsvp() -> None:
    meter = MeterObject.make(seconds=1, energy_uj=2, packets=3, octets=4)
    assert dropped(with_object(GOLDEN_PATH, meter.to_wire())) == (506, "MeterObject")


@pytest.mark.requirement("MPLA-4.4-04")
def test_an_error_has_8_offers_at_most_and_nothing_else() -> None:
    octets = encode_message(MESSAGES["path-err-offers"])
    room = with_object(octets, *[OFFER.to_wire()] * 6)
    error = said(room)
    assert isinstance(error, PathErr)
    assert len(error.offers) == 8
    assert dropped(with_object(room, OFFER.to_wire())) == (506, "TariffObject")
    assert dropped(with_object(octets, QUOTE.to_wire())) == (503, "TARIFF")
    grant = PowerObject.make(profile(ProfileType.GRANT, 1)).to_wire()
    assert dropped(with_object(octets, grant)) == (503, "POWER")


# --- flow descriptors -------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.2-02")
def test_a_reservation_has_8_senders_at_most_all_different() -> None:
    circuits = tuple(replace(RESV.circuits[0], sender=Sender(node(5), lsp)) for lsp in range(8))
    most = replace(RESV, circuits=circuits)
    octets = encode_message(most)
    assert said(octets) == most
    ninth = objects(GOLDEN_RESV)[6:]
    assert dropped(with_object(octets, *ninth))[0] == 508
    assert dropped(with_object(GOLDEN_RESV, *ninth)) == (506, "class")
    with pytest.raises(LocalProtocolError, match="9 circuits"):
        encode_message(replace(RESV, circuits=(*circuits, RESV.circuits[0])))


@pytest.mark.requirement("MPLA-4.2-02")
def test_a_style_and_its_senders_go_together() -> None:
    shared = encode_message(MESSAGES["resv-shared"])
    assert dropped(instead(shared, 8, objects(GOLDEN_RESV)[4])) == (506, "class")
    assert dropped(instead(GOLDEN_RESV, 8, entity(8, 1, b"\0\0\0\x11"))) == (506, "class")
    assert dropped(instead(GOLDEN_RESV, 8, entity(8, 1, b"\0\0\0\x13"))) == (503, "STYLE")
    assert dropped(without(GOLDEN_RESV, 16)) == (506, "class")
    bare = message(2, objects(GOLDEN_RESV)[:6])
    assert dropped(bare) == (506, "class")
    assert dropped(with_object(shared, entity(16, 1, bytes(4)))) == (506, "class")


def test_a_session_of_no_lamp_is_shared() -> None:
    shared = MESSAGES["resv-shared"]
    assert isinstance(shared, Resv)
    assert shared.session.is_shared
    assert not RESV.session.is_shared


def test_an_object_of_a_sender_has_its_length() -> None:
    long = entity(16, 1, bytes(8))
    assert dropped(instead(GOLDEN_RESV, 16, long)) == (502, "length")
    assert dropped(with_object(GOLDEN_PATH, entity(24, 1, bytes(4)))) == (502, "length")


def test_a_record_belongs_to_a_sender_once() -> None:
    record = entity(21, 1, bytes.fromhex("01080a0000042000"))
    assert isinstance(said(with_object(GOLDEN_RESV, record)), Resv)
    assert dropped(with_object(GOLDEN_RESV, record, record)) == (506, "record")
    assert dropped(with_object(GOLDEN_RESV, record, at=0)) == (506, "record")


# --- values -----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.2-02")
@pytest.mark.parametrize(
    ("number", "part", "code"),
    [
        (1, entity(1, 7, bytes(8)), 502),
        (5, entity(5, 1, bytes(8)), 502),
        (35, entity(35, 1, b"\0\x10\0\0"), 503),
        (207, entity(207, 7, b"\x08\0\0\0"), 503),
        (207, entity(207, 7, b"\0\x08\0\0"), 503),
        (207, entity(207, 7, b"\0\0\0\x05name"), 502),
        (207, entity(207, 7, b"\0\0\0\x01\xff\0\0\0"), 503),
        (12, entity(12, 2, bytes(32)), 503),
    ],
)
def test_a_value_that_the_layout_does_not_allow_drops_the_message(
    number: int, part: bytes, code: int
) -> None:
    assert dropped(instead(GOLDEN_PATH, number, part))[0] == code


@pytest.mark.parametrize("value", [b"\x7f\x80\0\0", b"\xbf\x80\0\0", b"\x7f\xc0\0\0"])
@pytest.mark.parametrize("place", [16, 20, 24])
def test_no_rate_is_infinite_negative_or_no_number(value: bytes, place: int) -> None:
    tspec = next(one for one in objects(GOLDEN_PATH) if one[2] == 12)
    changed = tspec[:place] + value + tspec[place + 4 :]
    assert dropped(instead(GOLDEN_PATH, 12, changed)) == (503, "SENDER_TSPEC")


def test_an_enterprise_number_stands_behind_code_252_and_no_other() -> None:
    octets = encode_message(MESSAGES["path-err-offers"])
    short = entity(6, 1, b"\x0a\0\0\x04\x04\xfc\0\x68")
    long = entity(6, 1, b"\x0a\0\0\x04\x04\x01\0\x02\0\0\x7e\xd9")
    for part in (short, long):
        assert dropped(instead(octets, 6, part)) == (502, "ERROR_SPEC")


# --- answers ----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.3-01", "MPLA-4.3-06", "MPLA-4.4-06")
def test_what_is_rejected_is_answered_with_its_own_objects() -> None:
    low = entity(99, 7, b"four")
    rejected = said(with_object(GOLDEN_PATH, low))
    assert isinstance(rejected, Rejected)
    assert rejected.message_id == PATH.message_id
    answer = said(encode_message(rejected.answer(Hop(node(4), 3))))
    assert isinstance(answer, PathErr)
    assert (answer.session, answer.sender, answer.tspec) == (PATH.session, PATH.sender, PATH.tspec)
    assert answer.error == (node(4), 4, 13, 99 << 8 | 7, 0)
    rejected = said(without(GOLDEN_RESV, 252, 1))
    assert isinstance(rejected, Rejected)
    answer = said(encode_message(rejected.answer(Hop(node(5), 3))))
    assert isinstance(answer, ResvErr)
    assert (answer.hop, answer.style) == (Hop(node(5), 3), RESV.style)
    assert answer.error == (node(5), 4, 252, 503, 32473)


@pytest.mark.requirement("MPLA-4.3-01")
def test_a_session_of_another_kind_is_answered_as_it_came() -> None:
    session = entity(1, 1, bytes(8))
    rejected = said(instead(GOLDEN_PATH, 1, session))
    assert isinstance(rejected, Rejected)
    answer = rejected.answer(Hop(node(4), 3))
    assert isinstance(answer, ErrorAnswer)
    assert objects(encode_message(answer))[0] == session


# --- INTEGRITY and bundles --------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.10-01")
@pytest.mark.parametrize("name", MESSAGES)
def test_a_keyed_message_is_read_by_who_has_the_key(name: str) -> None:
    octets = encode_message(MESSAGES[name], key=KEY, sequence=1 << 40)
    assert objects(octets)[0][:4] == b"\0\x34\x04\x01"
    received = decode_message(octets, KEYS)
    assert received == (MESSAGES[name], 64, KEY.key_id, 1 << 40)
    assert decode_message(octets) == received


@pytest.mark.requirement("MPLA-4.10-01")
def test_no_octet_of_a_keyed_message_can_be_changed() -> None:
    octets = encode_message(MESSAGES["hello-request"], key=KEY, sequence=7)
    for at in range(len(octets)):
        changed = bytearray(octets)
        changed[at] ^= 1
        changed[2:4] = bytes(2)
        if at not in (2, 3):
            with pytest.raises(DecodeError):
                decode_message(bytes(changed), KEYS)


@pytest.mark.requirement("MPLA-4.10-01")
def test_a_message_without_a_key_we_have_is_refused() -> None:
    octets = encode_message(MESSAGES["hello-request"], key=KEY)
    for given, keys in ((encode_message(MESSAGES["hello-request"]), KEYS), (octets, {}),
                        (octets, {KEY.key_id: b"another secret of some"})):  # fmt: skip
        with pytest.raises(DecodeError) as caught:
            decode_message(given, keys)
        assert (caught.value.code, caught.value.field) == (509, "INTEGRITY")
    assert dropped(with_object(octets, objects(octets)[0])) == (506, "INTEGRITY")
    assert dropped(with_object(octets[:8], entity(4, 1, bytes(24)))) == (502, "INTEGRITY")
    for key in (Key(1, b"short"), Key(1 << 48, bytes(16))):
        with pytest.raises(LocalProtocolError, match="a key has 48 bits"):
            encode_message(PATH, key=key)


@pytest.mark.requirement("MPLA-4.2-03")
def test_a_bundle_is_read() -> None:
    keyed = encode_message(RESV, key=KEY, sequence=2)
    both = said(message(12, [GOLDEN_PATH, keyed]))
    assert isinstance(both, Bundle)
    assert [one.message for one in both.received] == [PATH, RESV]
    assert [one.sequence for one in both.received] == [None, 2]
    with pytest.raises(DecodeError) as caught:
        decode_message(message(12, [GOLDEN_PATH, keyed]), KEYS)
    assert (caught.value.code, caught.value.offset) == (509, 16)


@pytest.mark.requirement("MPLA-4.2-03")
@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([], 502),
        ([b"\x11\x14\0\0"], 502),
        ([GOLDEN_PATH[:6] + b"\0\0" + GOLDEN_PATH[8:]], 502),
        ([GOLDEN_PATH[:6] + b"\1\x08" + GOLDEN_PATH[8:]], 502),
        ([message(12, [GOLDEN_PATH])], 504),
    ],
)
def test_a_bundle_of_anything_else_is_dropped(parts: list[bytes], code: int) -> None:
    assert dropped(message(12, parts))[0] == code


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_any_buffer_is_read(make: Callable[[bytes], bytes]) -> None:
    assert decode_message(make(GOLDEN_PATH)).message == PATH
