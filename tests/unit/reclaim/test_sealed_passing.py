"""What nobody in the middle can look into: sealed power and feeds pass, or are cut, and are counted."""

import pytest

from powertcp.dve import EnergyRegister, integrate
from powertcp.potcp.feed import ANY_FEED, feed_segment
from powertcp.reclaim.attack import SCENARIO_TERMS, AttackTerms, Style
from powertcp.reclaim.policy import State
from powertcp.reclaim.screen import Screen
from powertcp.reclaim.track import End
from powertcp.registry import Flag, Reason
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.wire.frames import encode_segment
from powertcp.wire.options import Feed, Options, Seal
from powertcp.wire.segments import Alert, Control, FeedSegment, Sealed, Segment
from tests.conversation import START, segments
from tests.feeds import Broadcast
from tests.screens import (
    ACCEPT,
    DEVICE,
    GRANT,
    PROVIDER,
    RECLAIM,
    RESERVOIR,
    Besieged,
    Judged,
    firewall_of,
    joules,
    party,
)

SYN_ACK = Flag.SYN | Flag.ACK
FIRST = Sealed(0, Flag.SYN, 0, Options(seal=Seal(0, 0)), bytes(64))


def sealed(counter: int, esn: int, *, profile: bool = False, flow: int = 1) -> Sealed:
    options = Options(seal=Seal(0, counter), profiles=(GRANT,) if profile else ())
    return Sealed(flow, 0, esn, options, bytes([counter % 256]) * 80)


class Passage:
    """A screen with somebody on either side of it, who say whatever they like."""

    def __init__(self, policy: str = ACCEPT, client: str = DEVICE.name) -> None:
        self.now = START
        self.firewall = firewall_of(policy)
        self.screen = Screen(self.firewall, party(client), PROVIDER, is_client_inside=True)

    def say(self, end: End, *said: Segment | bytes) -> tuple[bytes, bytes]:
        """Let one side speak; return what it is told, and what the other one is."""
        leg, other = self.screen.leg(end), self.screen.leg(end.other)
        self.now += NS_PER_MS
        octets = b"".join(one if isinstance(one, bytes) else encode_segment(one) for one in said)
        leg.receive_data(octets, self.now)
        assert self.firewall.joules.residual_uj == 0
        return leg.data_to_send(), other.data_to_send()


# ---- sealed -------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-2-02", "FWRL-1-03")
def test_sealed_power_that_may_pass_is_claimed_and_nothing_else() -> None:
    passage = Passage()
    said = [FIRST, sealed(0, 0, profile=True), sealed(1, 700), sealed(2, 500), sealed(3, 900)]
    back, passed = passage.say(End.SERVER, *said)
    assert back == b""
    assert passed == b"".join(encode_segment(one) for one in said)
    assert joules(passage.firewall) == (0, 0, 0, 0)
    assert passage.firewall.joules.claimed_uj == 900


@pytest.mark.requirement("FWRL-2-02")
def test_sealed_power_is_judged_at_its_first_segment_and_at_each_profile() -> None:
    passage = Passage()
    judged = Judged(passage.firewall)
    passage.say(End.CLIENT, FIRST)
    passage.say(End.SERVER, sealed(0, 0), sealed(1, 0, profile=True), sealed(2, 0))
    assert judged.states == [State.NEW, State.ENERGISED]
    assert [facts.voltage_mv for facts in judged.facts] == [None, 12_000]
    assert all(facts.is_sealed for facts in judged.facts)


@pytest.mark.requirement("FWRL-2-02")
@pytest.mark.parametrize("verdict", ["drop", "reject 206", "reclaim main"])
def test_sealed_power_of_a_stranger_is_never_credited(verdict: str) -> None:
    text = f"{RESERVOIR}\npolicy accept\nrule sealed yes -> {verdict}"
    siege = Besieged(text, SCENARIO_TERMS["S3"])
    siege.run(60)
    assert siege.screen.is_over
    assert joules(siege.firewall) == (0, 0, 0, 0)
    assert siege.firewall.joules.claimed_uj == 100_000_000
    assert siege.leaked == b""
    assert siege.firewall.stored_uj == 0
    said = [one for one in siege.answers if isinstance(one, Control)]
    assert [one.flags for one in said] == ([] if verdict == "drop" else [Flag.RST])


@pytest.mark.requirement("FWRL-2-02", "FWRL-3-02")
def test_sealed_power_under_way_is_cut_when_it_may_not_pass_any_more() -> None:
    passage = Passage()
    passage.say(End.SERVER, FIRST, sealed(0, 100))
    strict = firewall_of(f"{RESERVOIR}\npolicy reclaim main").policy
    passage.firewall.take(strict, passage.now)
    assert passage.screen.is_over
    assert passage.say(End.SERVER, sealed(1, 200)) == (b"", b"")


@pytest.mark.requirement("FWRL-2-02")
def test_private_power_claims_nothing() -> None:
    passage = Passage()
    said = [sealed(n, 2**64 - 1, flow=0) for n in range(3)]
    _, passed = passage.say(End.SERVER, *said)
    assert len(segments(passed)) == 3
    assert passage.firewall.joules.claimed_uj == 0


@pytest.mark.requirement("FWRL-3-07")
def test_sealed_segments_are_marked_and_nothing_else_of_them_changes() -> None:
    passage = Passage("policy accept\nrule sealed yes -> accept mark-ece")
    _, passed = passage.say(End.SERVER, sealed(0, 5))
    (heard,) = segments(passed)
    assert isinstance(heard, Sealed)
    assert heard.flags == Flag.ECE
    plain = encode_segment(sealed(0, 5))
    assert [at for at, (a, b) in enumerate(zip(plain, passed, strict=True)) if a != b] == [5]


# ---- feeds --------------------------------------------------------------------------------------

FEED = Broadcast().source.feed


def subscribed(passage: Passage, asked: Feed = FEED) -> Broadcast:
    """Subscribe the client, let the source confirm."""
    cast = Broadcast()
    _, passed = passage.say(End.CLIENT, feed_segment(asked, Flag.SYN))
    assert passed == feed_segment(asked, Flag.SYN)
    _, confirmed = passage.say(End.SERVER, cast.source.confirm())
    assert confirmed == cast.source.confirm()
    return cast


@pytest.mark.requirement("FWRL-3-16")
@pytest.mark.parametrize("asked", [FEED, Feed(ANY_FEED, 0)])
def test_a_feed_that_was_asked_for_passes_and_is_integrated(asked: Feed) -> None:
    passage = Passage()
    cast = subscribed(passage, asked)
    register = EnergyRegister(cast.sampling)
    pieces = [piece.octets for piece in (*cast.emit(30), *cast.end())]
    _, passed = passage.say(End.SERVER, *pieces)
    assert passed == b"".join(pieces)
    for one in segments(passed):
        if isinstance(one, FeedSegment) and not one.flags:
            register.add(integrate(one.payload))
    assert register.esn_uj > 0
    assert joules(passage.firewall) == (register.esn_uj, register.esn_uj, 0, 0)


@pytest.mark.requirement("FWRL-3-16")
def test_a_feed_that_nobody_asked_for_does_not_pass() -> None:
    passage = Passage(RECLAIM)
    cast = Broadcast()
    octets = [cast.source.confirm(), *(piece.octets for piece in cast.emit(3))]
    assert passage.say(End.SERVER, *octets) == (b"", b"")
    assert joules(passage.firewall) == (0, 0, 0, 0)


@pytest.mark.requirement("FWRL-3-16")
@pytest.mark.parametrize("verdict", ["reject 206", "reclaim main"])
def test_a_feed_that_may_not_be_is_refused_as_its_source_would(verdict: str) -> None:
    text = f"{RESERVOIR}\npolicy accept\nrule feed {FEED.feed_id.hex()} -> {verdict}"
    passage = Passage(text)
    back, passed = passage.say(End.CLIENT, feed_segment(FEED, Flag.SYN))
    assert passed == b""
    alert, fin = segments(back)
    assert isinstance(alert, Alert)
    assert alert.options.reason is not None
    assert alert.options.reason.code == Reason.POLICY
    assert isinstance(fin, FeedSegment)
    assert (fin.flags, fin.options.feed) == (Flag.FIN, FEED)
    assert not passage.screen.is_over
    # another one may
    other = Feed(bytes(15) + b"\1", 1)
    _, passed = passage.say(End.CLIENT, feed_segment(other, Flag.SYN))
    assert passed == feed_segment(other, Flag.SYN)


@pytest.mark.requirement("FWRL-3-16")
def test_whichever_feed_is_judged_when_it_has_a_name() -> None:
    text = f"policy accept\nrule feed {FEED.feed_id.hex()} -> reject 206"
    passage = Passage(text)
    judged = Judged(passage.firewall)
    passage.say(End.CLIENT, feed_segment(Feed(ANY_FEED, 0), Flag.SYN))
    back, passed = passage.say(End.SERVER, Broadcast().source.confirm())
    assert judged.lines == [(State.NEW, 1), (State.OFFERED, 2)]
    assert [facts.feed for facts in judged.facts] == [None, FEED.feed_id]
    # the source hears that nobody listens, the subscriber why
    assert segments(back) == [FeedSegment(0, Flag.FIN, 0, Options(feed=FEED), b"")]
    alert, fin = segments(passed)
    assert isinstance(alert, Alert)
    assert isinstance(fin, FeedSegment)
    assert fin.flags == Flag.FIN
    cast = Broadcast()
    assert passage.say(End.SERVER, *(piece.octets for piece in cast.emit(2))) == (b"", b"")


@pytest.mark.requirement("FWRL-3-16")
def test_who_leaves_a_feed_hears_no_more_of_it() -> None:
    passage = Passage()
    cast = subscribed(passage)
    _, passed = passage.say(End.CLIENT, feed_segment(FEED, Flag.FIN))
    assert passed == feed_segment(FEED, Flag.FIN)
    assert passage.say(End.SERVER, *(piece.octets for piece in cast.emit(2))) == (b"", b"")


def test_junk_of_any_type_opens_nothing() -> None:
    for seed in range(20):
        terms = AttackTerms(style=Style.JUNK, duration_ns=20 * NS_PER_S, seed=seed)
        siege = Besieged(f"{RESERVOIR}\npolicy drop", terms)
        siege.run(20)
        assert siege.leaked == b""
        assert siege.firewall.stored_uj == 0
