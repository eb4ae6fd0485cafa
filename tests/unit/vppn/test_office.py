"""What the responders of a process share: which early SYNs are used, how many are half-done."""

import pytest

from powertcp.potcp.tickets import TicketOffice
from powertcp.units import NS_PER_S
from powertcp.vppn import office as module
from powertcp.vppn.office import (
    CLOCKS_APART_NS,
    HALF_OPEN_COOKIE,
    HALF_OPEN_REFUSE,
    REMEMBERED_MAX,
    REMEMBERED_NS,
    SealOffice,
)
from tests.conversation import START, counting_entropy

NOW = 1_763_700_000 * NS_PER_S
BEGAN = NOW - 3_600 * NS_PER_S


def office(started_ns: int = BEGAN) -> SealOffice:
    return SealOffice(TicketOffice(counting_entropy()), started_ns)


def number(value: int) -> bytes:
    return value.to_bytes(32, "big")


# ---- the first flight ---------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-2.3-02")
def test_a_fresh_syn_is_used_once() -> None:
    here = office()
    assert here.takes_early(b"a", number(1), NOW, NOW)
    here.early_over(b"a")
    for later in (0, 1, REMEMBERED_NS - 1):
        said = NOW + min(later, CLOCKS_APART_NS)
        assert not here.takes_early(b"a", number(1), said, NOW + later)
        assert not here.takes_early(b"b", number(1), said, NOW + later)
    # nobody else knows an ephemeral key after 120 s, but its time is over by then
    assert not here.takes_early(b"a", number(1), NOW, NOW + REMEMBERED_NS)
    assert here.takes_early(b"a", number(1), NOW + REMEMBERED_NS, NOW + REMEMBERED_NS)


@pytest.mark.requirement("VPPN-2.3-02")
def test_clocks_are_at_most_60_s_apart() -> None:
    assert CLOCKS_APART_NS == 60 * NS_PER_S
    for apart, is_used in ((0, True), (CLOCKS_APART_NS, True), (CLOCKS_APART_NS + 1, False)):
        assert office().takes_early(b"a", number(1), NOW - apart, NOW) is is_used
        assert office().takes_early(b"a", number(1), NOW + apart, NOW) is is_used


@pytest.mark.requirement("VPPN-2.3-02")
def test_what_was_said_before_our_start_may_be_a_replay() -> None:
    for said, is_used in ((NOW - 1, False), (NOW, False), (NOW + 1, True)):
        assert office(NOW).takes_early(b"a", number(1), said, NOW + 5) is is_used


@pytest.mark.requirement("VPPN-2.3-03")
def test_one_early_syn_of_an_identity_at_a_time() -> None:
    here = office()
    assert here.takes_early(b"a", number(1), NOW, NOW)
    assert not here.takes_early(b"a", number(2), NOW, NOW)
    assert here.takes_early(b"b", number(3), NOW, NOW)
    here.early_over(b"a")
    # a key that was seen while it was the second is not fresh either
    assert not here.takes_early(b"a", number(2), NOW, NOW)
    assert here.takes_early(b"a", number(4), NOW, NOW)
    here.early_over(b"nobody")


@pytest.mark.requirement("VPPN-2.3-06")
def test_a_full_register_forgets_nothing_that_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    assert REMEMBERED_MAX == 65_536
    assert REMEMBERED_NS == 120 * NS_PER_S
    monkeypatch.setattr(module, "REMEMBERED_MAX", 64)
    here = office()
    for at in range(64):
        assert here.takes_early(number(at), number(at), NOW, NOW + at)
    assert not here.takes_early(b"late", number(64), NOW + 64, NOW + 64)
    assert not here.takes_early(b"x", number(0), NOW + 64, NOW + 64)
    # one entry is 120 s old now, and one place is free
    later = NOW + REMEMBERED_NS
    assert not here.takes_early(b"x", number(1), later, later)
    assert here.takes_early(b"late", number(64), later, later)
    assert not here.takes_early(b"later", number(65), later, later)


@pytest.mark.requirement("VPPN-2.3-06")
def test_the_register_holds_65536_keys() -> None:
    here = office()
    for at in range(REMEMBERED_MAX):
        here.takes_early(number(at), number(at), NOW, NOW)
    assert not here.takes_early(b"one more", number(REMEMBERED_MAX), NOW, NOW)
    later = NOW + REMEMBERED_NS
    assert here.takes_early(b"one more", number(REMEMBERED_MAX), later, later)


# ---- half-done handshakes -----------------------------------------------------------------------


@pytest.mark.requirement("VPPN-2.2-06")
def test_256_go_without_a_cookie_and_1024_with_one() -> None:
    here = office()
    found = []
    for count in (0, 255, 256, 1023, 1024, 5000):
        here.half_open = count
        found.append((here.needs_cookie, here.is_full))
    assert found == [(False, False)] * 2 + [(True, False)] * 2 + [(True, True)] * 2
    assert (HALF_OPEN_COOKIE, HALF_OPEN_REFUSE) == (256, 1024)


@pytest.mark.requirement("VPPN-2.2-06")
def test_cookies_are_those_of_the_ticket_office() -> None:
    tickets = TicketOffice(counting_entropy())
    here = SealOffice(tickets, BEGAN)
    cookie = here.cookies.cookie(b"peer", 0, b"message 1", START)
    assert cookie == tickets.cookie(b"peer", 0, b"message 1", START)
    assert here.cookies.has_cookie(cookie, b"peer", 0, b"message 1", START)
    assert not here.cookies.has_cookie(cookie, b"pear", 0, b"message 1", START)
    assert not here.cookies.has_cookie(cookie, b"peer", 0, b"message 2", START)
    assert not here.cookies.has_cookie(cookie, b"peer", 1, b"message 1", START)
