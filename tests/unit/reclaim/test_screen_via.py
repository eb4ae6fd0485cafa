"""VIA through a firewall: it ends at the one that it names a provider to, and passes all others."""

import pytest

from powertcp.potcp.events import FlowRefused
from powertcp.registry import Reason
from powertcp.wire.segments import Control
from tests.conversation import SINK, SOURCE, ask, segments
from tests.screens import ACCEPT, OTHER, PROVIDER, ScreenedPair


@pytest.mark.requirement("FWRL-2-03", "PTCP-2.1-05")
def test_the_firewall_that_is_named_a_provider_takes_via_out() -> None:
    pair = ScreenedPair(ACCEPT, target=None, names={"lab:3251": PROVIDER})
    pair.request(ask("12V/1A"), via="lab:3251")
    (said,) = pair.sent[SINK]
    (heard,) = segments(b"".join(pair.passed[SOURCE]))
    assert isinstance(said, Control)
    assert isinstance(heard, Control)
    assert (said.options.via, heard.options.via) == ("lab:3251", None)
    assert heard.options.profiles == said.options.profiles


@pytest.mark.requirement("FWRL-2-03")
def test_a_connection_that_goes_somewhere_goes_nowhere_else() -> None:
    pair = ScreenedPair(ACCEPT, target=None, names={"lab:3251": PROVIDER, "hall:3251": OTHER})
    pair.request(ask("12V/1A"), via="lab:3251")
    pair.request(ask("12V/1A"), via="hall:3251")
    refused = pair.one(SINK, FlowRefused)
    assert refused.refusal.code == Reason.POLICY


@pytest.mark.requirement("FWRL-2-04", "FWRL-1-03")
def test_in_a_transparent_mode_via_is_for_somebody_else() -> None:
    pair = ScreenedPair(ACCEPT)
    for name in ("lab", "hall"):
        pair.request(ask("12V/1A"), via=name)
    heard, passed = pair.octets(SINK)
    assert heard == passed
    assert [one.options.via for one in segments(passed) if isinstance(one, Control)] == [
        "lab",
        "hall",
    ]
