"""What a consumer answers to the proposals of its provider."""

import pytest

from powertcp.drivers.appliance import Appliance
from powertcp.drivers.reply import reply
from powertcp.loads import make_load
from powertcp.potcp.events import RenegotiationAnswered, RenegotiationRequested
from tests.conversation import SINK, SOURCE, Pair, ask


def _silent(*_: object) -> None:
    """Say nothing."""


@pytest.mark.requirement("PTCP-4-01")
@pytest.mark.parametrize(
    ("proposed", "accepted"),
    [(["12V/0.5A"], True), (["240V/0.05A"], False), (["12V/0.5A", "240V/0.05A"], False)],
)
async def test_a_proposal_of_the_same_watts_at_another_voltage_is_rejected(
    proposed: list[str], accepted: bool
) -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    each = Appliance("1", ask("12V/1A"), make_load("none"), _silent)
    each.flow = flow
    pair.source.renegotiate(flow, [ask(text) for text in proposed], now=pair.now)
    pair.exchange()
    reply(pair.sink, each, pair.one(SINK, RenegotiationRequested), pair.now)
    pair.exchange()
    assert pair.one(SOURCE, RenegotiationAnswered).accepted is accepted
