"""PATHs from a template are those that the plain encoder makes."""

from dataclasses import replace
from ipaddress import IPv4Address

import hypothesis
import hypothesis.strategies as st
import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.rsvp import Attribute, Hop, MessageId, Path, Sender, Session, encode_message
from powertcp.mplamps.rsvp.template import PathTemplate
from tests.rsvp_messages import GOLDEN_PATH, MESSAGES, PATH, RECORD, node

WORDS = st.integers(0, 2**32 - 1)
LABELS = st.integers(0, 2**20 - 1)
SHAPES = [
    PATH,
    replace(PATH, route=(), tariff=None),
    replace(PATH, record=RECORD, attribute=Attribute(4, 4, 6, "")),
]


@pytest.mark.requirement("MPLA-4.1-02", "MPLA-4.2-01")
@hypothesis.given(
    st.sampled_from(SHAPES), WORDS, WORDS, WORDS, WORDS, LABELS, st.integers(16, 2**20 - 1),
    st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=6, max_size=6), st.integers(1, 255),
)  # fmt: skip
def test_a_patched_message_is_an_encoded_one(
    shape: Path, number: int, lamp: int, hop: int, link: int, upstream: int, flow: int, name: str,
    ttl: int,
) -> None:  # fmt: skip
    address, at = IPv4Address(lamp), Hop(IPv4Address(hop), link)
    name = name[: len(shape.attribute.name)]
    plain = replace(
        shape, message_id=MessageId(0xBEEF, number), hop=at, upstream_label=upstream,
        flow_label=flow, session=Session(shape.session.es, 1, address), sender=Sender(address, 1),
        attribute=shape.attribute._replace(name=name),
    )  # fmt: skip
    template = PathTemplate(shape, ttl)
    made = template.octets(number, address, name, at, upstream, flow)
    assert made == encode_message(plain, ttl)


def test_a_template_makes_the_printed_octets() -> None:
    template = PathTemplate(replace(PATH, message_id=MessageId(0xBEEF, 99)))
    assert template.octets(1, node(5), "lamp-1", Hop(node(5), 1), 230, 16) == GOLDEN_PATH


def test_what_does_not_fit_the_template_is_not_made() -> None:
    template = PathTemplate(PATH)
    with pytest.raises(LocalProtocolError, match='"lamp-10" has 7 octets, that of the template 6'):
        template.octets(1, node(5), "lamp-10", Hop(node(5), 1), 230, 16)
    with pytest.raises(LocalProtocolError, match="PATH of lamp-2"):
        template.octets(1 << 32, node(5), "lamp-2", Hop(node(5), 1), 230, 16)
    for name in ("path-least", "path-recorded"):
        path = MESSAGES[name]
        assert isinstance(path, Path)
        with pytest.raises(LocalProtocolError, match="with a MESSAGE_ID"):
            PathTemplate(path)
