"""Values of a policy: what each text stands for, and what is none."""

import re
from collections.abc import Callable

import pytest

from powertcp.profile import Waveform
from powertcp.reclaim import policy_values as values
from powertcp.registry import Reason

GOOD: list[tuple[Callable[[str], object], str, object]] = [
    (values.POWER.parse, "1.5kW", 1_500_000),
    (values.ENERGY.parse, "5kWh", 18_000_000_000_000),
    (values.NUMBERS["frequency"].parse, "16.7Hz", 1_670),
    (values.NUMBERS["load"].parse, "1000%", 1_000),
    (values.parse_priority, "15", 15),
    (values.parse_percent_of_all, "0%", 0),
    (values.parse_name, "a-b.c_d:e@9", "a-b.c_d:e@9"),
    (values.parse_name, "x" * 64, "x" * 64),
    (values.parse_range, "5V-20V", (5_000, 20_000)),
    (values.parse_range, "12V", (12_000, 12_000)),
    (values.parse_price, "0.40EUR", (400_000, "EUR")),
    (values.parse_price, "-1USD", (-1_000_000, "USD")),
    (values.parse_price, "0.000001CHF", (1, "CHF")),
    (values.parse_clock, "24:00", 1_440),
    (values.parse_moment, "23:59", 1_439),
    (values.parse_times, "22:00-06:00", (1_320, 360)),
    (values.parse_times, "00:00-24:00", (0, 1_440)),
    (values.parse_octets, "0" * 30 + "Ff", bytes(15) + b"\xff"),
    (values.parse_octets, "00000000-0000-0000-0000-0000000000ff", bytes(15) + b"\xff"),
    (values.parse_key, "x25519:" + "A" * 43 + "=", bytes(32)),
    (values.parse_code, "206", Reason.POLICY),
    (values.parse_listen, "[::]:3251", ("::", 3251)),
    (values.parse_listen, "127.0.0.1:0", ("127.0.0.1", 0)),
]
BAD: list[tuple[Callable[[str], object], str, str]] = [
    (values.POWER.parse, "1e3W", "a power needs"),
    (values.POWER.parse, "9223372036854776W", "more than 63 bits hold"),
    (values.NUMBERS["load"].parse, "1001%", "up to 1000%"),
    (values.parse_percent_of_all, "101%", "up to 100%"),
    (values.parse_percent_of_all, "1.5%", "whole number"),
    (values.parse_priority, "0", "1 (best) to 15"),
    (values.parse_name, "", "a name has 1 to 64"),
    (values.parse_name, "x" * 65, "a name has 1 to 64"),
    (values.parse_name, "-a", "a name has 1 to 64"),
    (values.parse_range, "20V-5V", "LEAST-MOST"),
    (values.parse_range, "5V-20", "a voltage needs"),
    (values.parse_price, "0.40", "three capital letters"),
    (values.parse_price, "0.40eur", "three capital letters"),
    (values.parse_clock, "6:00", "00:00 to 24:00"),
    (values.parse_clock, "23:60", "00:00 to 24:00"),
    (values.parse_clock, "24:01", "00:00 to 24:00"),
    (values.parse_moment, "24:00", "00:00 to 23:59"),
    (values.parse_times, "22:00", "FROM-TO"),
    (values.parse_times, "06:00-06:00", "no time is between them"),
    (values.parse_times, "00:00-00:00", "no time is between them"),
    (values.parse_network, "10.0.0.1/8", "bits beyond the prefix"),
    (values.parse_network, "lamp", "it is no network"),
    (values.parse_network, "::ffff:0:0/96", "written as one"),
    (values.parse_address, "10.0.0.0/8", "it is no address"),
    (values.parse_octets, "00", "32 hexadecimal digits"),
    (values.parse_key, "ed25519:" + "A" * 43 + "=", "a key is x25519:BASE64"),
    (values.parse_code, "POLICY", "POLICY is 206"),
    (values.parse_code, "999", "no reason has the code"),
    (values.parse_code, "0206", "no reason has the code"),
    (values.parse_listen, "3251", "ADDRESS:PORT"),
    (values.parse_listen, "[127.0.0.1]:3251", "ADDRESS:PORT"),
    (values.parse_listen, "localhost:3251", "ADDRESS:PORT"),
    (values.parse_listen, "[::]:65536", "at most 65535"),
]


@pytest.mark.parametrize(("parse", "text", "value"), GOOD, ids=range(len(GOOD)))
def test_a_value(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.requirement("FWRL-3-15")
@pytest.mark.parametrize(("parse", "text", "said"), BAD, ids=range(len(BAD)))
def test_what_is_no_value(parse: Callable[[str], object], text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(text)


def test_an_address_and_a_network() -> None:
    assert str(values.parse_address("fd00::1")) == "fd00::1"
    assert str(values.parse_network("10.0.0.1")) == "10.0.0.1/32"


def test_every_waveform_is_direct_or_alternating() -> None:
    assert values.SHAPES["dc"] | values.SHAPES["ac"] == values.SHAPES["any"] == set(Waveform)
    assert not values.SHAPES["dc"] & values.SHAPES["ac"]
