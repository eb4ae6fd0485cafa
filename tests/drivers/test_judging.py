"""Judging adverts for `discover --why`: who only listens connects to nobody."""

import socket

import pytest

from powertcp.cli.judging import measured
from powertcp.dpdp.entry import Address
from powertcp.dpdp.ranges import Ask
from powertcp.dpdp.select import Need
from powertcp.dpdp.trust import Trust
from powertcp.profile import ProfileType
from tests import adverts
from tests.sightings import ADVERT

LAMP = ADVERT.offers[0].offer.with_type(ProfileType.REQUEST)


@pytest.mark.requirement("DPDP-7-06")
@pytest.mark.parametrize("is_passive", [True, False])
async def test_the_distance_is_measured_unless_nobody_is_asked(is_passive: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        near = (Address("127.0.0.1", "", listener.getsockname()[1]),)
        shown = [adverts.entry(ADVERT, name, addresses=near) for name in ("one", "two")]
        need = Need(asks=(Ask(LAMP, None),))
        found = await measured(shown, need, Trust(), frozenset(), is_passive=is_passive)
        assert [each.merits is not None for each in found] == [True, True]
        if is_passive:
            with pytest.raises(BlockingIOError):
                listener.accept()
        else:
            listener.accept()[0].close()
