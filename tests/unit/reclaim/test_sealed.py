"""Power that nobody in the middle looks into: sealed segments and feeds, by every way in and out."""

import pytest

from powertcp.potcp.feed import ANY_FEED
from powertcp.reclaim.policy import State
from powertcp.reclaim.screen import NameWanted
from powertcp.reclaim.sealed import FEEDS_MAX, FLOWS_MAX
from powertcp.reclaim.watch import Party
from powertcp.registry import Flag, Reason, SegmentType
from powertcp.wire.frames import encode_segment, pack_segment
from powertcp.wire.options import Feed, Options, Sampling, Seal
from powertcp.wire.segments import Alert, Control, FeedSegment, Sealed, Segment
from tests.conversation import SINK, SOURCE, segments
from tests.policies import ALICE
from tests.screens import (
    ACCEPT,
    GRANT,
    PROVIDER,
    RECLAIM,
    RESERVOIR,
    Judged,
    ScreenedPair,
    joules,
    party,
    told,
    watts,
)

PRIVATE = 2**64 - 1
LAMP = bytes(range(16))
SYN_ACK = Flag.SYN | Flag.ACK
RATE = Sampling(1000)


def sealed(esn: int = 0, *, flow: int = 1, flags: int = 0, profiles: tuple[object, ...] = ()) -> Sealed:  # fmt: skip
    options = Options(seal=Seal(0, 0), profiles=profiles)  # type: ignore[arg-type]
    return Sealed(flow, flags, esn, options, bytes(64))


def feed(
    flags: int = 0,
    payload: bytes = b"",
    *,
    name: bytes = LAMP,
    sampling: Sampling | None = None,
) -> FeedSegment:
    return FeedSegment(0, flags, 0, Options(feed=Feed(name, 7), sampling=sampling), payload)


def say(pair: ScreenedPair, side: int, *said: Segment | bytes) -> tuple[bytes, bytes]:
    """Let a side speak; return what it hears, and what the other one does."""
    pair.hear(
        side, b"".join(one if isinstance(one, bytes) else encode_segment(one) for one in said)
    )
    assert pair.firewall.joules.residual_uj == 0
    return pair.legs[side].data_to_send(), pair.legs[1 - side].data_to_send()


def codes(octets: bytes) -> list[int]:
    return [
        one.options.reason.code
        for one in segments(octets)
        if isinstance(one, Alert | Control) and one.options.reason is not None
    ]


# ---- sealed -------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-2-02", "FWRL-1-03")
def test_sealed_power_passes_unread_and_its_growth_is_claimed() -> None:
    pair = ScreenedPair()
    said = [sealed(100), sealed(700), sealed(300), sealed(50, flow=2), sealed(PRIVATE)]
    assert say(pair, SOURCE, *said) == (b"", b"".join(map(encode_segment, said)))
    assert joules(pair.firewall) == (0, 0, 0, 0)
    assert pair.account("sealed").joules.claimed_uj == 600


@pytest.mark.requirement("FWRL-2-02")
def test_claims_of_256_flows_are_followed() -> None:
    pair = ScreenedPair()
    for esn in (0, 5):
        say(pair, SOURCE, *(sealed(esn, flow=number) for number in range(FLOWS_MAX + 3)))
    assert pair.firewall.joules.claimed_uj == 5 * FLOWS_MAX


@pytest.mark.requirement("FWRL-2-02")
@pytest.mark.parametrize(
    ("verdict", "code"), [("drop", None), ("reject 305", 305), ("reclaim main", 206)]
)
def test_sealed_power_that_may_not_pass_is_cut_and_never_credited(
    verdict: str, code: int | None
) -> None:
    pair = ScreenedPair(f"{RESERVOIR}\n{ACCEPT}\nrule sealed yes -> {verdict}")
    back, passed = say(pair, SINK, sealed(10**9), sealed(2 * 10**9))
    assert codes(back) == ([] if code is None else [code])
    assert (passed, pair.screen.is_over) == (b"", True)
    assert joules(pair.firewall) == (0, 0, 0, 0)
    assert pair.firewall.joules.claimed_uj == 10**9
    assert pair.account("sealed").what == ("dropped" if code is None else "refused")


def test_private_power_that_is_cut_claims_nothing() -> None:
    pair = ScreenedPair("policy drop")
    say(pair, SINK, sealed(PRIVATE))
    assert pair.firewall.joules.claimed_uj == 0


@pytest.mark.requirement("FWRL-3-11")
def test_each_profile_of_sealed_power_is_judged() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule sealed yes power > 10W -> reject 204")
    judged = Judged(pair.firewall)
    say(pair, SINK, sealed(flags=Flag.SYN))
    assert (judged.states, judged.facts[0].power_mw) == ([State.NEW], None)
    # it is under way: it cannot be answered in clear
    assert say(pair, SOURCE, sealed(5, profiles=(GRANT,))) == (b"", b"")
    assert pair.screen.is_dropped
    assert (judged.states[1], judged.facts[1].power_mw) == (State.ENERGISED, 12_000)


@pytest.mark.requirement("FWRL-3-02")
def test_sealed_power_is_judged_again_and_marked_or_cut() -> None:
    pair = ScreenedPair()
    say(pair, SINK, sealed(flags=Flag.SYN))
    pair.reload(f"{ACCEPT}\nrule sealed yes -> accept mark-ece")
    _, passed = say(pair, SINK, sealed(3))
    assert passed[5] & Flag.ECE
    pair.firewall.take(pair.firewall.policy, pair.now)
    assert not pair.screen.is_over
    pair.reload(f"{ACCEPT}\nrule sealed yes -> reject 305")
    assert pair.screen.is_dropped
    assert told(pair.firewall)[-1] == "dropped"


@pytest.mark.requirement("FWRL-2-02")
@pytest.mark.parametrize("is_client_inside", [True, False])
@pytest.mark.parametrize(
    ("client", "target", "is_known"),
    [
        (PROVIDER.name, "10.1.3.4:1", True),
        ("10.1.3.4:1", PROVIDER.name, True),
        ("192.0.2.1:1", PROVIDER.name, False),
    ],
)
def test_the_peer_of_sealed_power_is_the_key_bound_to_an_address(
    client: str, target: str, *, is_client_inside: bool, is_known: bool
) -> None:
    text = f"set trusted keys authorized_watts\n{ACCEPT}"
    pair = ScreenedPair(
        text, client=party(client), target=party(target), is_client_inside=is_client_inside
    )
    judged = Judged(pair.firewall)
    say(pair, SINK, sealed(flags=Flag.SYN))
    assert judged.facts[0].peer == (ALICE if is_known else None)


def test_no_key_is_bound_to_who_has_no_address() -> None:
    pair = ScreenedPair(client=Party("lamp", None), target=Party("lab", None))
    judged = Judged(pair.firewall)
    say(pair, SINK, sealed(flags=Flag.SYN))
    assert judged.facts[0].peer is None


def test_a_key_that_was_proven_is_the_peer() -> None:
    pair = ScreenedPair(client=party("10.0.0.7:1", b"k" * 32))
    judged = Judged(pair.firewall)
    say(pair, SINK, sealed(flags=Flag.SYN))
    assert judged.facts[0].peer == b"k" * 32


def test_sealed_power_to_nobody_waits_for_a_name() -> None:
    pair = ScreenedPair(target=None, names={None: PROVIDER})
    say(pair, SINK, sealed(flags=Flag.SYN))
    assert pair.all(NameWanted) == [NameWanted(via=None)]
    assert pair.account("sealed").other == "10.0.0.7:4711"


@pytest.mark.parametrize("kind", [SegmentType.SEALED, SegmentType.FEED])
def test_what_cannot_be_read_ends_the_connection(kind: SegmentType) -> None:
    pair = ScreenedPair()
    say(pair, SINK, pack_segment(int(kind), 0, 1, 0, b"\x01\xff\0\0", b""))
    assert pair.hung.refusal is not None


# ---- feeds --------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-16", "FWRL-1-03")
def test_a_feed_that_was_asked_for_passes_and_is_integrated() -> None:
    pair = ScreenedPair()
    ask = feed(Flag.SYN)
    assert say(pair, SINK, ask) == (b"", encode_segment(ask))
    block = watts(12_000, 1_000_000)
    said = [
        feed(SYN_ACK),
        # before its scale is known, it has no worth; nor has a scale without one
        feed(0, block),
        feed(0, block, sampling=Sampling(0)),
        feed(0, block, sampling=RATE),
        feed(Flag.ECE, block),
        feed(0, bytes(9)),
        feed(Flag.PSH, bytes(200)),
        feed(0, watts(12_000, -1_000_000)),
    ]
    assert say(pair, SOURCE, *said) == (b"", b"".join(map(encode_segment, said)))
    assert joules(pair.firewall) == (2_400_000, 2_400_000, 0, 0)
    # what its hearer says is no power of it
    say(pair, SINK, feed(0, block))
    assert pair.firewall.joules.in_uj == 2_400_000
    assert not pair.screen.is_idle
    say(pair, SINK, feed(Flag.FIN))
    assert pair.screen.is_idle
    assert pair.account(f"feed-{LAMP.hex()}").what == "closed"


@pytest.mark.requirement("FWRL-3-16")
def test_a_feed_nobody_asked_for_and_one_without_a_name_do_not_pass() -> None:
    pair = ScreenedPair()
    assert say(pair, SOURCE, feed(0, watts(1, 1)), feed(SYN_ACK)) == (b"", b"")
    nameless = FeedSegment(0, Flag.SYN, 0, Options(), b"")
    back, passed = say(pair, SINK, nameless)
    assert (codes(back), passed) == ([Reason.BAD_OPTION], b"")
    assert pair.screen.is_over


@pytest.mark.requirement("FWRL-3-16")
def test_16_feeds_pass_and_not_one_more() -> None:
    pair = ScreenedPair()
    asked = [feed(Flag.SYN, name=bytes([9, *range(14), n])) for n in range(FEEDS_MAX + 1)]
    _, passed = say(pair, SINK, *asked)
    assert len(segments(passed)) == FEEDS_MAX == 16


@pytest.mark.requirement("FWRL-3-16", "FWRL-3-12")
def test_a_feed_that_may_not_be_is_refused_or_dropped() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule feed {LAMP.hex()} -> reject 206")
    back, passed = say(pair, SINK, feed(Flag.SYN))
    assert (codes(back), passed, pair.screen.is_over) == ([Reason.POLICY], b"", False)
    other = feed(Flag.SYN, name=bytes([7] * 16))
    assert say(pair, SINK, other) == (b"", encode_segment(other))
    dropped = ScreenedPair("policy drop")
    assert say(dropped, SINK, feed(Flag.SYN)) == (b"", b"")
    assert dropped.screen.is_dropped


@pytest.mark.requirement("FWRL-3-16")
@pytest.mark.parametrize("is_allowed", [True, False])
def test_whichever_feed_is_judged_by_the_name_it_gets(*, is_allowed: bool) -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule feed {LAMP.hex()} -> reject 206")
    name = bytes([7] * 16) if is_allowed else LAMP
    say(pair, SINK, feed(Flag.SYN, name=ANY_FEED))
    # it is no answer of the one who asked
    assert say(pair, SINK, feed(SYN_ACK, name=name)) == (b"", b"")
    answer = feed(SYN_ACK, name=name)
    back, passed = say(pair, SOURCE, answer)
    if is_allowed:
        assert (back, passed) == (b"", encode_segment(answer))
    else:
        (bye,) = segments(back)
        assert isinstance(bye, FeedSegment)
        assert (bye.flags, codes(passed)) == (Flag.FIN, [Reason.POLICY])
        assert pair.screen.is_idle


@pytest.mark.requirement("FWRL-3-02", "FWRL-3-07")
def test_a_feed_is_judged_again_and_marked_or_cut() -> None:
    pair = ScreenedPair()
    say(pair, SINK, feed(Flag.SYN))
    pair.reload(f"{ACCEPT}\nrule feed {LAMP.hex()} -> accept mark-ece")
    _, passed = say(pair, SOURCE, feed(0, watts(1, 1)))
    assert passed[5] & Flag.ECE
    pair.firewall.take(pair.firewall.policy, pair.now)
    assert not pair.screen.is_over
    pair.firewall.take(
        ScreenedPair(f"{ACCEPT}\nrule feed {LAMP.hex()} -> reject 305").firewall.policy, pair.now
    )
    assert codes(pair.legs[SINK].data_to_send()) == [Reason.UNSOLICITED]
    assert pair.screen.is_over


def test_all_that_passes_ends_with_its_connection() -> None:
    pair = ScreenedPair(RECLAIM)
    say(pair, SINK, sealed(flags=Flag.SYN), feed(Flag.SYN))
    pair.legs[SINK].receive_eof(pair.now)
    assert told(pair.firewall) == ["closed", "closed"]
    assert pair.firewall.flows.live == {}
