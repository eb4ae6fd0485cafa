"""Ways around the policy that were found once: each is shut."""

import pytest

from powertcp.profile import ProfileType
from powertcp.reclaim.firewall import BOOKED_MAX, OTHERS
from powertcp.reclaim.screen import NameWanted, Screen, TargetWanted
from powertcp.registry import Flag, Reason, SegmentType
from powertcp.units import NS_PER_S
from powertcp.wire.frames import Splitter, credit_segment, encode_segment, pack_segment
from powertcp.wire.options import Options, Sampling, Seal, encode_options
from powertcp.wire.segments import Control, Credit, Data, Ready, Trip
from tests.conversation import START, profile, segments
from tests.screens import DEVICE, PROVIDER, firewall_of, postings, watts

REQUEST = profile("12V/1A")
GRANT = profile("12V/1A", ProfileType.GRANT)
AGREED = Options(contract=1, profiles=(GRANT,))
BLOCK_UJ = 1_200_000
SEAL = encode_options(Options(seal=Seal(0, 0)))


def block(at: int, esn: int | None = None, volts_mv: int = 12_000, counter: int = 0) -> bytes:
    """Return the at-th block of 1.2 J, or one that lies."""
    payload = watts(volts_mv, 1_000_000, counter or at * 100)
    return encode_segment(Data(1, at * BLOCK_UJ if esn is None else esn, False, payload))


def powered(policy: str, credit_uj: int = 100 * BLOCK_UJ) -> Screen:
    """Return a screen with a flow of 12 W, and nothing left to be sent."""
    screen = Screen(firewall_of(policy), DEVICE, PROVIDER, is_client_inside=True)
    asked = Options(profiles=(REQUEST,), sampling=Sampling(1000))
    offer = Options(contract=1, profiles=(GRANT,), sampling=Sampling(1000))
    screen.client.receive_data(encode_segment(Control(1, Flag.SYN, 0, asked)), START)
    screen.server.receive_data(encode_segment(Control(1, Flag.SYN | Flag.ACK, 0, offer)), START)
    ack = encode_segment(Control(1, Flag.ACK, 0, AGREED))
    screen.client.receive_data(ack + credit_segment(1, 0, credit_uj), START)
    screen.server.receive_data(encode_segment(Ready(1, 0, AGREED)), START)
    drain(screen)
    return screen


def drain(screen: Screen) -> bytes:
    """Return what the client is sent, and forget what the server is."""
    while screen.server.data_to_send():
        pass
    return screen.client.data_to_send()


@pytest.mark.requirement("PTCP-2.1-04", "FWRL-2-03")
@pytest.mark.parametrize("more", [Flag.ECE, Flag.CWR, Flag.URG, Flag.PSH])
def test_a_request_with_flags_that_are_ignored_waits_for_its_name_too(more: Flag) -> None:
    screen = Screen(firewall_of("policy accept"), DEVICE, None, is_client_inside=True)
    options = encode_options(
        Options(profiles=(REQUEST,), sampling=Sampling(1000), via="10.1.1.1:3251")
    )
    syn = pack_segment(SegmentType.CTL, Flag.SYN | more, 1, 0, options, b"")
    screen.client.receive_data(syn, START)
    assert screen.client.next_event() == NameWanted(via="10.1.1.1:3251")
    screen.settle(PROVIDER, None, START)
    assert screen.client.next_event() == TargetWanted()


@pytest.mark.requirement("FWRL-3-03")
@pytest.mark.parametrize("fault", ["esn", "counter"])
def test_a_fault_does_not_open_the_way_for_what_is_worse(fault: str) -> None:
    screen = powered("policy accept")
    lie = block(1, esn=7) if fault == "esn" else block(1, counter=55)
    screen.server.receive_data(block(0) + lie, START)
    assert drain(screen) == block(0) + lie
    # its sink says nothing: nothing more passes, and a spike trips
    screen.server.receive_data(block(2), START)
    assert drain(screen) == b""
    screen.server.receive_data(block(3, volts_mv=400_000_000), START)
    assert [type(one) for one in segments(drain(screen))] == [Trip]
    assert screen.firewall.joules.authorised_uj == BLOCK_UJ
    assert screen.firewall.joules.residual_uj == 0


@pytest.mark.requirement("FWRL-3-03")
def test_a_first_faulty_block_above_a_peak_limit_is_not_forwarded() -> None:
    screen = powered("policy accept")
    screen.server.receive_data(block(0, esn=7, volts_mv=400_000_000), START)
    assert [type(one) for one in segments(drain(screen))] == [Trip]


@pytest.mark.requirement("FWRL-3-04")
def test_a_faulty_block_beyond_credit_is_judged_as_one_beyond_credit() -> None:
    screen = powered("policy accept\nrule state unsolicited -> reject 305", BLOCK_UJ)
    screen.server.receive_data(block(0), START)
    screen.server.receive_data(block(1, esn=7), START)
    said = segments(drain(screen))
    assert isinstance(said[-1], Control)
    assert said[-1].options.reason is not None
    assert said[-1].options.reason.code == Reason.UNSOLICITED


@pytest.mark.requirement("FWRL-3-03")
def test_a_flow_that_goes_on_after_its_fault_is_reset() -> None:
    screen = powered("policy accept")
    screen.server.receive_data(block(0, esn=7), START)
    drain(screen)
    screen.server.receive_data(block(1), START + 6 * NS_PER_S)
    (said,) = segments(drain(screen))
    assert isinstance(said, Control)
    assert said.flags == Flag.RST
    assert screen.is_idle


@pytest.mark.requirement("FWRL-3-05", "FWRL-3-04")
def test_credit_that_was_not_let_go_is_none_to_its_source() -> None:
    text = "policy drop\nrule state unsolicited -> reject 305\nrule direction out -> accept limit 1W burst 2J"
    screen = powered(text, 2_000_000)
    screen.client.receive_data(encode_segment(Credit(1, 0, 1_000_000_000)), START)
    screen.server.receive_data(block(0) + block(1), START)
    out = drain(screen)
    assert out.startswith(block(0))
    assert block(1) not in out
    assert screen.firewall.joules.authorised_uj <= 2_000_000
    assert screen.is_idle


@pytest.mark.requirement("FWRL-3-01", "FWRL-3-11")
@pytest.mark.parametrize("first", [ProfileType.OFFER, ProfileType.FALLBACK])
def test_each_profile_of_ready_is_judged_and_not_the_first_alone(first: ProfileType) -> None:
    screen = powered("policy accept\nrule power > 50W -> reject 204")
    harmless = profile("12V/1A", first)
    huge = profile("12V/1000A", ProfileType.GRANT)
    ready = Ready(1, 0, Options(contract=3, profiles=(harmless, huge)))
    screen.server.receive_data(encode_segment(ready), START)
    (said,) = segments(drain(screen))
    assert isinstance(said, Control)
    assert said.options.reason is not None
    assert (said.options.reason.code, said.options.reason.limit) == (Reason.WATT_LIMIT, 50_000)


@pytest.mark.requirement("FWRL-3-14", "FWRL-2-02")
def test_octets_behind_a_block_do_not_shift_what_passes() -> None:
    screen = powered("policy accept\nrule sealed yes -> drop")
    octets = block(0)
    screen.server.receive_data(octets + bytes(28), START)
    out = screen.client.data_to_send()
    splitter = Splitter(65535)
    kinds = [raw[0] for raw in splitter.receive(out)]
    assert out.startswith(octets)
    assert kinds == [SegmentType.DATA, SegmentType.CTL]
    assert splitter.error is None
    assert screen.is_over


@pytest.mark.requirement("FWRL-3-03")
@pytest.mark.parametrize("last", [Control(1, Flag.FIN, BLOCK_UJ), Trip(1, BLOCK_UJ)])
def test_a_flow_whose_end_nobody_answers_is_reset(last: Control | Trip) -> None:
    screen = powered("policy accept")
    screen.server.receive_data(block(0) + encode_segment(last), START)
    drain(screen)
    due = screen.get_timer()
    assert due == START + 10 * NS_PER_S
    screen.client.handle_timer(due)
    (said,) = segments(drain(screen))
    assert isinstance(said, Control)
    assert said.options.reason is not None
    assert said.options.reason.code == Reason.TIMEOUT
    assert screen.is_idle
    assert screen.get_timer() is None


@pytest.mark.requirement("FWRL-1-04")
def test_who_comes_from_many_addresses_has_one_account() -> None:
    firewall = firewall_of("policy accept")
    names = {firewall.known_as(f"192.0.2.{number}") for number in range(BOOKED_MAX + 9)}
    assert len(names) == BOOKED_MAX + 1
    assert firewall.known_as("192.0.2.0") == "192.0.2.0"
    assert firewall.known_as("192.0.2.999999") == OTHERS


@pytest.mark.requirement("LEDG-8-03", "FWRL-2-02")
def test_a_claim_is_of_who_said_it() -> None:
    firewall = firewall_of("policy drop")
    for is_client_inside in (True, False):
        screen = Screen(firewall, DEVICE, PROVIDER, is_client_inside=is_client_inside)
        sealed = pack_segment(SegmentType.SEALED, Flag.SYN, 1, 7_000_000, SEAL, bytes(32))
        screen.client.receive_data(sealed, START)
        assert postings(firewall)["claimed:10.0.0.7", "claims", "uJ-claimed"] == 7_000_000
