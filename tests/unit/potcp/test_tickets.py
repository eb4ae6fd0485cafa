"""Cookies without state and tickets used once; what an office remembers is bounded."""

import pytest

from powertcp.potcp.events import Alerted, FlowClosed, FlowResumed, PowerRequested, TicketReceived
from powertcp.potcp.tickets import (
    COOKIE_ROTATION_NS,
    TICKET_OCTETS,
    USED_IDS_MAX,
    Tenure,
    TicketOffice,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason
from powertcp.units import NS_PER_S
from powertcp.wire.options import Sampling
from tests.conversation import SINK, SOURCE, START, Pair, ask, counting_entropy

GRANT = PowerProfile.parse("12V/1A,lease=60s", ProfileType.GRANT)


class Held:
    """A flow that an office may move."""

    def __init__(self, acked_uj: int = 100, sent_uj: int = 200) -> None:
        self.acked_uj, self.sent_uj = acked_uj, sent_uj
        self.key = 0
        self.moved: list[int] = []
        self.wishes: tuple[PowerProfile, ...] = ()
        self.party = b""

    def tenure(self) -> Tenure | None:
        if self.moved:
            return None
        return Tenure(
            key=self.key,
            contract=1,
            profile=GRANT,
            fallback=None,
            sampling=Sampling(1000),
            minimum_mv=0,
            acked_uj=self.acked_uj,
            sent_uj=self.sent_uj,
            limit_uj=500,
            wishes=self.wishes,
            party=self.party,
        )

    def move(self, now: int, esn_uj: int) -> None:
        self.moved.append(now)
        self.acked_uj = esn_uj


def enrolled(office: TicketOffice) -> tuple[Held, bytes]:
    held = Held()
    held.key = office.enrol(held)
    tenure = held.tenure()
    assert tenure is not None
    return held, office.issue(tenure, b"t" * 32, 3600, START)


def office() -> TicketOffice:
    return TicketOffice(counting_entropy())


@pytest.mark.requirement("PTCP-10-01", "PTCP-10-03")
def test_a_ticket_moves_its_flow_once() -> None:
    here = office()
    held, ticket = enrolled(here)
    assert len(ticket) == TICKET_OCTETS <= 230
    tenure = here.redeem(ticket, GRANT, 150, START + 1)
    assert tenure is not None
    assert (tenure.profile, tenure.sent_uj) == (GRANT, 200)
    assert (held.moved, held.acked_uj) == ([START + 1], 150)
    assert here.redeem(ticket, GRANT, 150, START + 2) is None


@pytest.mark.requirement("PTCP-10-04", "VPPN-2.3-07")
@pytest.mark.parametrize(("before", "now"), [(b"a", b""), (b"", b"a"), (b"a", b"b")])
def test_a_ticket_is_good_for_the_identity_it_was_given_to(before: bytes, now: bytes) -> None:
    here = office()
    held, ticket = enrolled(here)
    held.party = before
    assert here.redeem(ticket, GRANT, 150, START, party=now) is None
    assert here.redeem(ticket, GRANT, 150, START, party=before) is not None


@pytest.mark.requirement("PTCP-10-04")
def test_a_used_ticket_is_void_even_if_its_flow_were_there_again() -> None:
    here = office()
    held, ticket = enrolled(here)
    assert here.redeem(ticket, GRANT, 150, START) is not None
    held.moved.clear()
    # another ticket of the same flow died with it, too
    assert here.redeem(ticket, GRANT, 150, START) is None
    assert held.moved == []


@pytest.mark.requirement("PTCP-10-03")
@pytest.mark.parametrize(
    ("esn_uj", "lawful"), [(99, False), (100, True), (200, True), (201, False)]
)
def test_the_resumed_esn_lies_between_acknowledged_and_sent(esn_uj: int, lawful: bool) -> None:
    here = office()
    _, ticket = enrolled(here)
    assert (here.redeem(ticket, GRANT, esn_uj, START) is not None) is lawful


@pytest.mark.requirement("PTCP-10-04")
def test_expired_foreign_bent_or_short_tickets_are_void() -> None:
    here, there = office(), TicketOffice(counting_entropy(99))
    held, ticket = enrolled(here)
    assert here.redeem(ticket, GRANT, 150, START + 3600 * NS_PER_S) is None
    assert there.redeem(ticket, GRANT, 150, START) is None
    assert here.redeem(ticket[:-1], GRANT, 150, START) is None
    bent = ticket[:40] + bytes([ticket[40] ^ 1]) + ticket[41:]
    assert here.redeem(bent, GRANT, 150, START) is None
    assert held.moved == []
    assert here.redeem(ticket, GRANT, 150, START + 3599 * NS_PER_S) is not None


@pytest.mark.requirement("PTCP-10-04")
def test_tickets_of_flows_that_ended_are_void() -> None:
    here = office()
    held, ticket = enrolled(here)
    held.moved.append(0)
    assert here.redeem(ticket, GRANT, 150, START) is None
    here.leave(held.key)
    here.leave(held.key)
    assert here.redeem(ticket, GRANT, 150, START) is None


@pytest.mark.requirement("PTCP-10-04", "PTCP-14-01")
def test_more_than_65536_tickets_are_used_each_once() -> None:
    here = office()
    for _ in range(USED_IDS_MAX + 1):
        _, ticket = enrolled(here)
        assert here.redeem(ticket, GRANT, 150, START) is not None
    assert here.redeem(ticket, GRANT, 150, START) is None


@pytest.mark.requirement("PTCP-4-08")
def test_a_cookie_is_for_one_peer_flow_and_options_and_lives_two_rotations() -> None:
    here = office()
    cookie = here.cookie(b"peer", 1, b"options", START)
    assert len(cookie) == 32
    assert here.has_cookie(cookie, b"peer", 1, b"options", START)
    for peer, flow, options in ((b"pee", 1, b"roptions"), (b"peer", 3, b"options")):
        assert not here.has_cookie(cookie, peer, flow, options, START)
    assert not here.has_cookie(None, b"peer", 1, b"options", START)
    later = START + COOKIE_ROTATION_NS
    assert here.has_cookie(cookie, b"peer", 1, b"options", later - 1)
    assert here.has_cookie(cookie, b"peer", 1, b"options", later)
    assert here.cookie(b"peer", 1, b"options", later) != cookie
    assert not here.has_cookie(cookie, b"peer", 1, b"options", later + COOKIE_ROTATION_NS)


@pytest.mark.requirement("PTCP-4-08")
def test_after_a_long_silence_both_keys_are_new() -> None:
    here = office()
    cookie = here.cookie(b"peer", 1, b"", START)
    assert not here.has_cookie(cookie, b"peer", 1, b"", START + 2 * COOKIE_ROTATION_NS)


@pytest.mark.requirement("PTCP-14-01")
def test_thresholds_of_half_open_flows() -> None:
    here = office()
    for half_open, states in {
        255: (False, False),
        256: (True, False),
        1023: (True, False),
        1024: (True, True),
    }.items():
        here.half_open = half_open
        assert (here.needs_cookie, here.is_full) == states


@pytest.mark.requirement("PTCP-10-04", "PTCP-10-03")
def test_a_used_ticket_on_the_wire_is_a_plain_syn_with_alert_406() -> None:
    pair = Pair()
    pair.energise()
    ticket = pair.one(SINK, TicketReceived).ticket
    pair.cut()
    second = Pair(office=pair.office, now=pair.now)
    second.request(ask("12V/1.5A"), ticket=ticket)
    assert second.one(SOURCE, FlowResumed).returned_uj == 0
    pair.collect()
    old = pair.one(SOURCE, FlowClosed)
    assert old.refusal is not None
    assert old.refusal.code == Reason.HANDOVER
    third = Pair(office=pair.office, now=pair.now)
    third.request(ask("12V/1.5A"), ticket=ticket)
    alerted = third.one(SINK, Alerted)
    assert alerted.refusal is not None
    assert alerted.refusal.code == Reason.TICKET_INVALID
    assert len(third.take(SOURCE, PowerRequested)) == 1
    assert third.take(SOURCE, FlowResumed) == []


@pytest.mark.requirement("PTCP-10-03", "PTCP-10-04")
@pytest.mark.parametrize(
    ("text", "moves"),
    [
        ("12V/1.5A", True),
        ("5V/2A", True),
        # the contract in force
        ("12V/1A", True),
        ("12V/1.4A", False),
        ("230V/16A", False),
        ("12V/1A@50Hz", False),
        (None, False),
    ],
)
def test_a_ticket_comes_with_a_request_of_before(text: str | None, moves: bool) -> None:
    here = office()
    held, ticket = enrolled(here)
    held.wishes = (PowerProfile.parse("12V/1.5A"), PowerProfile.parse("5V/2A"))
    request = PowerProfile.parse(text) if text else None
    assert (here.redeem(ticket, request, 150, START) is not None) is moves
    assert (held.moved == [START]) is moves
