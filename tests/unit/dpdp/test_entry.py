"""Names and addresses of adverts, as they are compared and as people read them."""

import pytest

from powertcp.dpdp.advert import TYPE_TCP
from powertcp.dpdp.entry import Address, key_of
from tests.sightings import service


def test_names_are_compared_without_the_case_of_ascii_letters() -> None:
    assert key_of(TYPE_TCP, "BENCH Ä") == "bench Ä._powertcp._tcp.local." != key_of(TYPE_TCP, "ä")
    assert service("Bench").key == service("bENCH").key
    assert service(host="Hall-B.LOCAL.").target == "hall-b.local."


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address("10.0.0.7", "", 3251), "10.0.0.7:3251"),
        (Address("2001:db8::1", "", 3251), "[2001:db8::1]:3251"),
        (Address("fe80::1", "eth0", 1), "[fe80::1%eth0]:1"),
    ],
)
def test_an_address_as_people_write_it(address: Address, text: str) -> None:
    assert str(address) == text
