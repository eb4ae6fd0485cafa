"""Who comes to a firewall: other protocols, and which side of it is inside."""

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from powertcp.reclaim.attack import AttackTerms
from powertcp.reclaim.policy import State, Way
from powertcp.reclaim.screen import Screen, TargetWanted
from powertcp.reclaim.track import End
from powertcp.registry import Reason, Refusal
from tests.conversation import START, ask
from tests.screens import (
    ACCEPT,
    DEVICE,
    PROVIDER,
    RECLAIM,
    RESERVOIR,
    Besieged,
    Judged,
    ScreenedPair,
    firewall_of,
)

HTTP = b"GET / HTTP/1.1\r\n\r\n"


def screened(*, passes_other: bool = False, policy: str = ACCEPT) -> Screen:
    return Screen(
        firewall_of(policy), DEVICE, PROVIDER, is_client_inside=True, passes_other=passes_other
    )


def hear(screen: Screen, chunks: Sequence[bytes], end: End = End.CLIENT) -> None:
    for chunk in chunks:
        screen.leg(end).receive_data(chunk, START)


def octets_of(octets: bytes) -> list[bytes]:
    return [bytes((octet,)) for octet in octets]


# ---- what is no power ---------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-2-01")
@pytest.mark.parametrize(
    "said",
    [
        HTTP,
        bytes.fromhex("504f0205") + bytes(16),
        bytes.fromhex("504f0104") + bytes(16),
        bytes.fromhex("504f0186") + bytes(16),
        bytes.fromhex("504e0105") + bytes(16),
    ],
)
def test_what_is_no_power_is_closed_without_a_word(said: bytes) -> None:
    for chunks in ([said], octets_of(said)):
        screen = screened()
        hear(screen, chunks)
        assert screen.is_over
        assert screen.is_dropped
        assert screen.client.data_to_send() == screen.server.data_to_send() == b""
        assert not any(isinstance(one, TargetWanted) for one in screen.client.events)


@pytest.mark.requirement("FWRL-2-01")
def test_nothing_is_decided_and_nobody_connected_to_before_four_octets() -> None:
    screen = screened(passes_other=True)
    hear(screen, octets_of(HTTP[:3]))
    assert not screen.is_over
    assert not screen.client.events
    assert screen.server.queued == 0
    hear(screen, [HTTP[3:]])
    assert screen.server.data_to_send() == HTTP
    assert [type(one) for one in screen.client.events] == [TargetWanted]


@pytest.mark.requirement("FWRL-2-01")
def test_other_protocols_pass_both_ways_where_they_may() -> None:
    screen = screened(passes_other=True)
    hear(screen, [HTTP])
    hear(screen, [b"HTTP/1.1 200 OK\r\n", b"\r\n"], End.SERVER)
    assert screen.client.data_to_send() == b"HTTP/1.1 200 OK\r\n\r\n"
    # and whoever began so is not judged as power later
    hear(screen, [bytes.fromhex("504f0105")])
    assert screen.server.data_to_send() == HTTP + bytes.fromhex("504f0105")


@pytest.mark.requirement("FWRL-2-01", "FWRL-1-01")
def test_other_protocols_do_not_pass_a_firewall_that_is_shut() -> None:
    screen = screened(passes_other=True)
    screen.firewall.stop(Refusal(Reason.MAINTENANCE), START)
    hear(screen, [HTTP])
    assert screen.is_over
    assert screen.server.data_to_send() == b""
    begun = screened(passes_other=True)
    hear(begun, [HTTP])
    begun.firewall.stop(Refusal(Reason.MAINTENANCE), START)
    assert begun.is_over


@pytest.mark.requirement("FWRL-2-01")
def test_power_begins_in_any_pieces() -> None:
    pair = ScreenedPair(chunk=octets_of)
    flow = pair.energise("12V/1A")
    assert pair.run(flow, 3) == 3
    heard, passed = pair.octets(0)
    assert heard == passed


# ---- inside and outside -------------------------------------------------------------------------


def ways(pair: ScreenedPair) -> set[Way | None]:
    judged = Judged(pair.firewall)
    pair.request(ask("12V/1A"))
    return {facts.way for facts in judged.facts}


@pytest.mark.requirement("FWRL-2-05")
@pytest.mark.parametrize(("is_client_inside", "way"), [(True, Way.OUT), (False, Way.IN)])
def test_a_flow_goes_the_way_it_was_asked_for(is_client_inside: bool, way: Way) -> None:
    assert ways(ScreenedPair(is_client_inside=is_client_inside)) == {way}


@pytest.mark.requirement("FWRL-2-05")
@pytest.mark.parametrize(
    ("side", "is_client_inside", "way"),
    [
        (End.CLIENT, False, Way.IN),
        (End.SERVER, True, Way.IN),
    ],
)
def test_power_that_nobody_asked_for_goes_the_way_it_came(
    side: End, is_client_inside: bool, way: Way
) -> None:
    siege = Besieged(RECLAIM, AttackTerms(), side=side)
    siege.screen.is_client_inside = is_client_inside
    judged = Judged(siege.firewall)
    siege.exchange()
    assert [(facts.state, facts.way) for facts in judged.facts] == [(State.UNSOLICITED, way)]


@pytest.mark.requirement("FWRL-2-05")
@pytest.mark.parametrize(
    ("address", "is_inside"),
    [("10.1.2.3", True), ("192.0.2.1", False), ("fd00::7", True), ("2001:db8::1", False)],
)
def test_the_set_named_inside_says_who_is(address: str, is_inside: bool) -> None:
    policy = firewall_of(f"{RESERVOIR}\nset inside net 10.0.0.0/8 fd00::/8\npolicy drop").policy
    assert policy.is_inside(ip_address(address)) is is_inside
    assert firewall_of("policy drop").policy.is_inside(ip_address(address)) is None
