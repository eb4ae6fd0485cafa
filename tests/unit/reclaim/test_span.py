"""A read of lawful blocks passes as one piece, and as it would pass block by block."""

import pytest

from powertcp.profile import ProfileType
from powertcp.reclaim.screen import Screen
from powertcp.registry import Flag
from powertcp.wire.frames import credit_segment, encode_segment
from powertcp.wire.options import Options, Sampling
from powertcp.wire.segments import Blocked, Control, Data, Ready
from tests.conversation import START, profile
from tests.screens import DEVICE, PROVIDER, firewall_of, watts

REQUEST = profile("12V/1A")
GRANT = profile("12V/1A", ProfileType.GRANT)
AGREED = Options(contract=1, profiles=(GRANT,))
# 12 V, 1 A, 100 samples at 1000 Hz
BLOCK_UJ = 1_200_000
CREDIT_UJ = 50 * BLOCK_UJ


def blocks(count: int, first: int = 0, amperes_ua: int = 1_000_000) -> bytes:
    """Return whole DATA segments in a row."""
    return b"".join(
        encode_segment(Data(1, at * BLOCK_UJ, False, watts(12_000, amperes_ua, at * 100)))
        for at in range(first, first + count)
    )


def screen_of(policy: str = "policy accept") -> Screen:
    """Return a screen on which a contract is agreed upon, but not in force."""
    screen = Screen(firewall_of(policy), DEVICE, PROVIDER, is_client_inside=True)
    asked = Options(profiles=(REQUEST,), sampling=Sampling(1000))
    offer = Options(contract=1, profiles=(GRANT,), sampling=Sampling(1000))
    screen.client.receive_data(encode_segment(Control(1, Flag.SYN, 0, asked)), START)
    answer = Control(1, Flag.SYN | Flag.ACK, 0, offer)
    screen.server.receive_data(encode_segment(answer), START)
    ack = encode_segment(Control(1, Flag.ACK, 0, AGREED))
    screen.client.receive_data(ack + credit_segment(1, 0, CREDIT_UJ), START)
    screen.client.data_to_send()
    return screen


READY = encode_segment(Ready(1, 0, AGREED))


@pytest.mark.requirement("FWRL-1-03")
@pytest.mark.parametrize("cut", [0, 1, 21, 836, 837, 1672])
def test_blocks_pass_octet_for_octet_wherever_reads_cut_them(cut: int) -> None:
    screen, octets = screen_of(), blocks(10)
    screen.server.receive_data(READY, START)
    screen.client.data_to_send()
    for part in (octets[:cut], octets[cut:]):
        screen.server.receive_data(part, START)
    assert screen.client.data_to_send() == octets
    assert screen.firewall.joules.authorised_uj == 10 * BLOCK_UJ


@pytest.mark.requirement("FWRL-1-03")
def test_a_contract_may_come_into_force_in_the_read_that_brings_its_first_blocks() -> None:
    screen, octets = screen_of(), READY + blocks(3)
    screen.server.receive_data(octets, START)
    assert screen.client.data_to_send() == octets
    assert screen.firewall.joules.authorised_uj == 3 * BLOCK_UJ


def test_something_else_between_blocks_passes_in_its_place() -> None:
    screen = screen_of()
    blocked = encode_segment(Blocked(1, 2 * BLOCK_UJ, CREDIT_UJ))
    octets = READY + blocks(2) + blocked + blocks(2, first=2)
    screen.server.receive_data(octets, START)
    assert screen.client.data_to_send() == octets


@pytest.mark.requirement("FWRL-3-04")
@pytest.mark.parametrize("fault", ["beyond credit", "above 1.25", "over-voltage"])
def test_blocks_before_an_unlawful_one_of_the_same_read_pass(fault: str) -> None:
    screen = screen_of("policy accept\nrule state unsolicited -> reject 305")
    screen.server.receive_data(READY, START)
    screen.client.data_to_send()
    if fault == "beyond credit":
        good, bad = blocks(50), blocks(1, first=50)
    elif fault == "above 1.25":
        good, bad = blocks(5), blocks(1, first=5, amperes_ua=1_300_000)
    else:
        good = blocks(5)
        bad = encode_segment(Data(1, 5 * BLOCK_UJ, False, watts(13_300, 900_000, 500)))
    screen.server.receive_data(good + bad, START)
    out = screen.client.data_to_send()
    assert out.startswith(good)
    assert bad not in out
    joules = screen.firewall.joules
    assert joules.authorised_uj == len(good) // len(blocks(1)) * BLOCK_UJ
    assert joules.heat_uj > 0
    assert joules.residual_uj == 0


@pytest.mark.requirement("PTCP-2.1-05")
def test_marked_blocks_carry_ece_and_are_the_same_else() -> None:
    screen, octets = screen_of("policy drop\nrule direction out -> accept mark-ece"), blocks(3)
    screen.server.receive_data(READY, START)
    screen.client.data_to_send()
    screen.server.receive_data(octets, START)
    out = screen.client.data_to_send()
    differing = [at for at, (a, b) in enumerate(zip(octets, out, strict=True)) if a != b]
    assert differing == [at * len(octets) // 3 + 5 for at in range(3)]
    assert all(out[at] == octets[at] | Flag.ECE for at in differing)
