"""The options of a hot spot: what fits together, and what a reload may not change."""

import msgspec
import pytest

from powertcp.cli.config import ProviderOptions
from powertcp.cli.hotspot import check_hotspot_stays, hotspot_config
from powertcp.cli.provider import build_parser
from powertcp.cli.status import lines
from powertcp.dpdp.leases import HotSpotConfig
from powertcp.errors import ConfigError

GUEST = ProviderOptions(hotspot="guest", inside="wlan0")


def test_there_is_none_unless_it_is_asked_for() -> None:
    assert hotspot_config(ProviderOptions()) is None
    found = hotspot_config(ProviderOptions(hotspot="guest", inside="wlan0", outside="eth0"))
    assert found == HotSpotConfig(kind="guest", inside="wlan0", outside="eth0")


def test_the_words_of_a_command_line_are_its_keys() -> None:
    words = ["--hotspot", "ticket", "--inside", "w0", "--outside", "e0"]
    given = vars(build_parser().parse_args(words))
    assert [given[name] for name in ("hotspot", "inside", "outside")] == ["ticket", "w0", "e0"]


@pytest.mark.requirement("DPDP-9-01")
def test_tickets_need_a_seal_and_a_file_of_who_has_one() -> None:
    whole = ProviderOptions(hotspot="ticket", inside="w0", seal="opt", authorized="watts")
    assert hotspot_config(whole) == HotSpotConfig(kind="ticket", inside="w0")
    for name, value in (("seal", "off"), ("authorized", "")):
        with pytest.raises(ConfigError, match="who has a ticket is told by --authorized"):
            hotspot_config(msgspec.structs.replace(whole, **{name: value}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ProviderOptions(inside="wlan0"), "inside: it is about --hotspot"),
        (ProviderOptions(outside="eth0"), "outside: it is about --hotspot"),
        (ProviderOptions(hotspot="guest"), "where are its guests"),
        (ProviderOptions(hotspot="guest", inside='w"'), "inside: an interface has 1..15 signs"),
        (ProviderOptions(hotspot="guest", inside="w", outside="e*"), "outside: an interface has"),
        (ProviderOptions(hotspot="guest", inside="w", outside="w"), "w is the inside already"),
    ],
)
def test_what_does_not_fit_together_names_its_key(options: ProviderOptions, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        hotspot_config(options)


def test_a_reload_has_the_same_hot_spot() -> None:
    check_hotspot_stays(GUEST, GUEST)
    for name, value in (("hotspot", "ticket"), ("inside", "wlan1"), ("outside", "eth0")):
        with pytest.raises(ConfigError, match="settled at the start"):
            check_hotspot_stays(GUEST, msgspec.structs.replace(GUEST, **{name: value}))


@pytest.mark.requirement("DPDP-9-04")
@pytest.mark.parametrize(
    ("spot", "said"),
    [
        ({"forwarding": True, "addresses": 1}, "hot spot (guest) on w0 to e0: 1 address forwarded"),
        ({"forwarding": True, "addresses": 1024}, "1,024 addresses forwarded"),
        (
            {"forwarding": True, "addresses": 2, "fault": "no interface w0"},
            "2 addresses forwarded; no interface w0",
        ),
        (
            {"forwarding": False, "fault": "no nft"},
            "hot spot (guest) on w0 to e0: power only: no nft",
        ),
    ],
)
def test_status_says_what_is_forwarded(spot: dict[str, object], said: str) -> None:
    facts = {"kind": "guest", "inside": "w0", "outside": "e0", **spot}
    status = {"state": "ready", "rating_mw": 60_000, "hotspot": facts}
    assert said in "\n".join(lines({"role": "provider", "pid": 7}, status))
