"""Every vector of COPS in the MPLampS draft, by the hand-written codec and by the schema."""

from typing import Any

import pytest

from powertcp.errors import DecodeError
from powertcp.mplamps.cops import Decision, Report, Request, decode_message, encode_message
from powertcp.mplamps.cops import inner_objects as by_hand
from powertcp.wire.cops_schema import NUMBERS, OPS
from powertcp.wire.cops_values import build_inner, build_message, parse_inner, parse_message
from powertcp.wire.schema import Rejected
from tests.cops_values import own_values
from tests.vectors.test_mplamps import vectors
from tools.mplamps_vectors import FOLDER

Values = dict[str, Any]
GOOD = [row for row in vectors(FOLDER) if row[1]["layout"] == "cops"]
BAD = [row for row in vectors(FOLDER / "bad") if row[1]["layout"] == "cops"]


def opened(values: Values) -> Values:
    """Return a message with what is in it said object by object, as the vectors say it."""
    objects = []
    for one in values["objects"]:
        rest = {key: value for key, value in one.items() if key != "data"}
        if "data" in one:
            rest["inner"] = parse_inner(bytes.fromhex(one["data"]))
        objects.append(rest)
    return {**values, "objects": objects}


def inside(octets: bytes) -> bytes:
    """Return the objects of RSVP in a message, read by hand."""
    match decode_message(octets):
        case Request(info=info) | Report(info=info):
            return info
        case Decision(data=data):
            return data
        case _:
            return b""


def test_there_are_vectors_enough() -> None:
    assert len(GOOD) >= 20
    assert len(BAD) >= 15


def test_each_operation_and_each_object_has_a_vector() -> None:
    said = [row[1]["decoded"] for row in GOOD]
    assert {one["op"] for one in said} == set(OPS.values())
    # the name of a client's data is taken and never sent
    named = {one["object"] for values in said for one in values["objects"]}
    assert set(NUMBERS) - named == {"NAMED_CLIENT_SI"}


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04", "MPLA-4.4-05")
@pytest.mark.parametrize(("name", "about", "octets"), GOOD, ids=[row[0] for row in GOOD])
def test_good_vector(name: str, about: Values, octets: bytes) -> None:
    said = parse_message(octets)
    assert opened(said) == about["decoded"]
    assert build_message(about["decoded"]) == build_message(said) == octets
    message = decode_message(octets)
    assert own_values(message) == own_values(said)
    if about.get("canonical", True):
        assert encode_message(message) == octets
    inner = [one for row in about["decoded"]["objects"] for one in row.get("inner", ())]
    assert inside(octets) == build_inner(inner)
    ours = [one.octets for one in by_hand(inside(octets)) if one.private is not None]
    assert ours == [build_inner([one]) for one in inner
                    if one["object"] in ("POWER", "FLOW_LABEL", "TARIFF", "METER")]  # fmt: skip


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04", "MPLA-4.4-06")
@pytest.mark.parametrize(("name", "about", "octets"), BAD, ids=[row[0] for row in BAD])
def test_bad_vector(name: str, about: Values, octets: bytes) -> None:
    with pytest.raises(Rejected) as by_schema:
        opened(parse_message(octets))
    assert (by_schema.value.code, by_schema.value.field) == (about["reject"], about["field"])
    with pytest.raises(DecodeError) as caught:
        by_hand(inside(octets))
    assert caught.value.code == about["reject"]
