"""What `powertcp discover` prints of an advert, and the file it writes for avahi."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from powertcp.cli.adverts import HEADS, facts, format_offer, format_tariff, lay_out, row, table
from powertcp.cli.avahi import service_file
from powertcp.dpdp.advert import TYPE_TCP, TYPE_UDP, Advert, Offer, Tariff, encode_txt
from powertcp.dpdp.entry import Address, Entry, Service, Signed, Standing
from powertcp.profile import PowerProfile, ProfileType


def offer(text: str, least: str = "") -> Offer:
    return Offer(
        offer=PowerProfile.parse(text, ProfileType.OFFER),
        minimum=PowerProfile.parse(least, ProfileType.MINIMUM) if least else None,
    )


BENCH = Advert(
    id=bytes.fromhex("7f31a2c4d5e60718293a4b5c6d7e8f90"),
    offers=(offer("12V/3A", "5V/0A"),),
    cap_mw=36_000,
    source="grid",
    tariff=Tariff(currency="EUR", micro_per_kwh=250_000),
)
HERE = (Address("fe80::1", "eth0", 3251), Address("10.0.0.7", "", 3251))


def entry(advert: Advert | None = BENCH, name: str = "Bench PSU", **changes: object) -> Entry:
    service = Service(
        instance=name, kind=TYPE_TCP, host="bench.local.", port=3251, addresses=HERE,
        txt=b"\x09txtvers=7" if advert is None else encode_txt(advert),
    )  # fmt: skip
    plain = Entry(
        key=service.key, service=service, advert=advert, fault="", standing=Standing.GOOD, why="",
        signed=Signed.UNKNOWN, pinned=False, site=False, first_ns=0, last_ns=0, dead_until_ns=0,
        addresses=HERE,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_line_has_what_people_choose_by() -> None:
    assert row(entry()) == (
        "7f31a2c4", "Bench PSU", "5-12V/3A", "36 W", "grid", "0.25 EUR", "any",
        "[fe80::1%eth0]:3251",
    )  # fmt: skip


def test_what_is_rare_stands_at_the_end() -> None:
    rare = replace(BENCH, exchange_key=bytes(32), seal="req", soc=71, hot="guest", cap_mw=0)
    cells = row(entry(rare, pinned=True, site=True))
    assert (cells[3], cells[6]) == ("full", "pinned")
    assert cells[7] == "[fe80::1%eth0]:3251  seal  hot spot (guest)  71 %"
    assert row(entry(site=True))[6] == "site"


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"standing": Standing.SUSPECT, "why": "id-clash"}, "suspect: id-clash"),
        ({"standing": Standing.DEAD, "addresses": ()}, "-  dead"),
        ({"signed": Signed.NONE}, ":3251  unverified"),
    ],
)
def test_what_is_wrong_with_an_advert_is_said(changes: dict[str, object], end: str) -> None:
    assert row(entry(**changes))[7].endswith(end)  # type: ignore[arg-type]


def test_an_advert_that_cannot_be_read_is_shown_with_its_fault() -> None:
    cells = row(
        entry(None, standing=Standing.UNKNOWN_VERSION, fault="an advert of another version")
    )
    assert cells[:3] == ("-", "Bench PSU", "-")
    assert cells[7].endswith("unknown version: an advert of another version")


@pytest.mark.requirement("DPDP-7-02")
def test_what_a_stranger_wrote_cannot_act_on_a_terminal() -> None:
    evil = replace(BENCH, source="grid", loc="")
    cells = row(entry(evil, name="\x1b[2J\u202eUSP"))
    assert cells[1] == "\\x1b[2J\\u202eUSP"
    assert row(entry(name="x" * 63))[1] == "x" * 38 + ".."


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    long = entry(replace(BENCH, offers=(offer("230V/16A@50Hz"), offer("230V/32A@50Hz/wye"))))
    lines = table([entry(), long])
    assert lines[0].split() == list(HEADS)
    at = lines[0].index("ADDRESS")
    assert [line.index("[fe80") for line in lines[1:]] == [at, at]
    assert lay_out([row(entry())])[0].startswith("7f31a2c4  Bench PSU            5-12V/3A   ")


@pytest.mark.parametrize(
    ("tariff", "text"),
    [
        (None, "-"),
        (Tariff(currency="", micro_per_kwh=0), "free"),
        (Tariff(currency="EUR", micro_per_kwh=-50_000), "-0.05 EUR"),
        (Tariff(currency="JPY", micro_per_kwh=31_000_000), "31.00 JPY"),
    ],
)
def test_prices(tariff: Tariff | None, text: str) -> None:
    assert format_tariff(tariff) == text


def test_a_range_is_written_from_its_least_voltage() -> None:
    assert format_offer(offer("12V/5A")) == "12V/5A"
    assert format_offer(offer("20V/5A", "5V/0.5A")) == "5-20V/5A"
    assert format_offer(offer("12V/5A", "12V/1A")) == "12V/5A"


def test_programs_get_every_field_raw_and_read() -> None:
    said = facts(entry(name="\x1b"))
    assert said["name"] == "\x1b"
    assert said["addresses"] == ["[fe80::1%eth0]:3251", "10.0.0.7:3251"]
    assert said["pairs"] == {
        "txtvers": "1", "id": "7f31a2c4d5e60718293a4b5c6d7e8f90",
        "p1": "4c00002ee0000bb8000000000000000064000013880000000000000000000000",
        "cap": "36000", "src": "grid", "tariff": "EUR:250000",
    }  # fmt: skip
    assert bytes.fromhex(str(said["txt"])) == encode_txt(BENCH)
    assert (said["cap_mw"], said["price_micro_per_kwh"], said["currency"]) == (
        36_000,
        250_000,
        "EUR",
    )
    unread = facts(entry(None, standing=Standing.UNKNOWN_VERSION))
    assert (unread["id"], unread["pairs"]) == (None, {"txtvers": "7"})


def test_a_record_that_is_none_has_no_pairs() -> None:
    broken = entry(None, standing=Standing.MALFORMED)
    broken = replace(broken, service=replace(broken.service, txt=b"\xff"))
    assert facts(broken)["pairs"] == {}


def test_avahi_gets_a_file_that_says_the_same_but_for_what_ends() -> None:
    signed = replace(BENCH, expires_s=1_795_212_000, signature=bytes(64))
    rows: list[dict[str, object]] = [
        {"name": "A & <B>", "kind": kind, "port": 3251, "txt": encode_txt(signed).hex()}
        for kind in (TYPE_TCP, TYPE_UDP)
    ]
    text = "\n".join(service_file(rows))
    tree = ElementTree.fromstring(text)
    assert tree.findtext("name") == "A & <B>"
    services = tree.findall("service")
    assert [each.findtext("type") for each in services] == ["_powertcp._tcp", "_powertcp._udp"]
    pairs = [each.text or "" for each in services[0].findall("txt-record")]
    assert pairs[0] == "txtvers=1"
    assert "cap=36000" in pairs
    assert not [pair for pair in pairs if pair.startswith(("exp", "sig"))]


def test_a_record_that_a_daemon_tells_wrongly_is_left_out() -> None:
    assert "<txt-record>" not in "\n".join(
        service_file([{"name": "x", "kind": TYPE_TCP, "port": 1, "txt": "zz"}])
    )
