"""Messages that come alike: what is kept of them is bounded, whatever a neighbour says."""

import gc
import tracemalloc
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

import pytest

from powertcp.mplamps.rsvp import Path, decode_message, encode_message
from powertcp.mplamps.rsvp.objects import MAX_HOPS, RouteHop
from tests.rsvp_messages import PATH, RESV, message, objects


@pytest.mark.requirement("MPLA-4.10-03")
def test_objects_in_any_order_make_no_more_types() -> None:
    random, parts = Random(1), objects(encode_message(PATH))
    decode_message(message(1, parts))
    before = len(Path.__subclasses__())
    for _ in range(200):
        # SESSION and HOP come first, as they are
        rest = parts[2:]
        random.shuffle(rest)
        octets = message(1, [*parts[:2], *rest])
        for _ in range(2):
            assert decode_message(octets).message == PATH
    gc.collect()
    assert len(Path.__subclasses__()) == before


@pytest.mark.requirement("MPLA-4.10-03")
@pytest.mark.parametrize("what", ["route", "name"])
def test_long_objects_are_not_kept(what: str) -> None:
    def path_of(number: int) -> Path:
        if what == "name":
            attribute = PATH.attribute._replace(name=f"{number:0200}")
            return replace(PATH, attribute=attribute, message_id=None)
        bits = [number >> at & 1 for at in range(MAX_HOPS)]
        route = tuple(RouteHop(IPv4Address(0x0A00_0001 + bit)) for bit in bits)
        return replace(PATH, route=route, message_id=None)

    octets = [encode_message(path_of(number)) for number in range(3000)]
    for one in octets[:5]:
        decode_message(one)
    tracemalloc.start()
    try:
        for one in octets:
            decode_message(one)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 200_000


@pytest.mark.parametrize("length", [1, 55, 56, 57, 64, 65, 255])
def test_names_of_all_lengths_are_read_again_as_they_were(length: int) -> None:
    said = replace(PATH, attribute=PATH.attribute._replace(name="x" * length))
    for _ in range(3):
        assert decode_message(encode_message(said)).message == said


def test_a_resv_is_read_again_as_it_was() -> None:
    for _ in range(3):
        assert decode_message(encode_message(RESV)).message == RESV
