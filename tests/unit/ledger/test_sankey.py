"""The diagram of an audit: both sides add up, the text is the same each time."""

import re
from xml.etree import ElementTree

import pytest

from powertcp.crypto import SigningKey
from powertcp.ledger.audit import FirstLaw, audit
from powertcp.ledger.book import Code
from powertcp.ledger.sankey import BAND, MAX_FEEDS, sankey
from tests.books import Feed, Flow, Node, transfer

FLOW = bytes([7]) * 32
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def mains() -> Node:
    return Node("mains", 1)


@pytest.fixture
def lamp() -> Node:
    return Node("lamp", 2)


def drawn(law: FirstLaw) -> dict[str, int]:
    """Return the bands of a diagram: what they are called and how much they are."""
    root = ElementTree.fromstring(sankey(law))
    titles = [path.findtext(f"{SVG}title", "") for path in root.iter(f"{SVG}path")]
    rows = [title.rpartition(": ") for title in titles]
    return {name: int(amount.removesuffix(" uJ").replace(",", "")) for name, _, amount in rows}


def test_generated_used_stored_heat_and_the_miracle(mains: Node, lamp: Node) -> None:
    feed = Feed(1, mains)
    feed.emit(1000)
    feed.receive(lamp, 1000)
    feed.receive(mains, 900)
    Flow(FLOW, mains, lamp).deliver(500)
    lamp.post(transfer(FLOW, 0, "load:lamp", "store:lamp", 300, Code.LOAD))
    lamp.post(transfer(FLOW, 0, "heat:lamp", "store:lamp", 200, Code.LOSS))
    law = audit([mains.shown(), lamp.shown()])
    bands = drawn(law)
    assert bands == {
        "generated": 1500,
        f"the miracle, feed {feed.feed.hex()[:4]}.. (chi = 1.90)": 900,
        "used": 300,
        "stored": 1900,
        "heat": 200,
    }
    assert law.sentence() in sankey(law)
    assert 'class="miracle' in sankey(law)


def test_what_comes_from_and_goes_to_others(mains: Node, lamp: Node) -> None:
    flow = Flow(FLOW, mains, lamp)
    flow.deliver(500)
    Flow(bytes([8]) * 32, lamp, Node("other", 3), supply="store:lamp").deliver(700)
    assert drawn(audit([lamp.shown()])) == {
        "from outside": 500,
        "from stores": 200,
        "delivered outside": 700,
    }
    feed = Feed(1, mains)
    feed.emit(40)
    assert drawn(audit([mains.shown()])) == {
        "generated": 540,
        "delivered outside": 500,
        "not received": 40,
    }


def test_books_that_are_wrong_show_what_is_over(mains: Node) -> None:
    mains.post(transfer(FLOW, 0, "toaster:1", "source:mains", 44, Code.LOAD))
    assert drawn(audit([mains.shown()])) == {"generated": 44, "residual": 44}


def test_many_feeds_share_a_band(mains: Node, lamp: Node) -> None:
    for number in range(MAX_FEEDS + 3):
        feed = Feed(1, mains, meter=SigningKey(bytes([number]) * 32))
        feed.emit(10)
        feed.receive(lamp, 10)
        feed.receive(mains, 10 - number)
    bands = drawn(audit([mains.shown(), lamp.shown()]))
    assert bands["the miracle, 3 more feeds"] == 2 + 3 + 4
    assert sum("miracle" in name for name in bands) == MAX_FEEDS + 1


def test_bars_fill_the_band_and_the_text_repeats(mains: Node, lamp: Node) -> None:
    for number in range(3):
        Flow(bytes([number]) * 32, mains, lamp, supply=f"source:{number}").deliver(10**number)
    lamp.post(transfer(FLOW, 0, "load:lamp", "store:lamp", 37, Code.LOAD))
    law = audit([mains.shown(), lamp.shown()])
    shown = sankey(law)
    assert shown == sankey(audit([lamp.shown(), mains.shown()]))
    heights = re.findall(r'class="(?:used|stored)" .*? height="([\d.]+)"', shown)
    assert sum(round(float(height) * 100) for height in heights) == BAND * 100


def test_books_without_energy(mains: Node) -> None:
    assert "No energy was moved." in sankey(audit([mains.shown()]))
