"""What each message says, as a line and as JSON: RSVP, COPS, and what cannot be read."""

from dataclasses import replace

import pytest

from powertcp.cli import lamp_rungs
from powertcp.cli.lamp_lines import line_of, told_line, values_of
from powertcp.cli.lamp_rungs import Rung, Rungs
from powertcp.cli.lamp_sightings import Names, Sighting, Told
from powertcp.errors import DecodeError
from powertcp.mplamps import cops, rsvp
from powertcp.mplamps.plans import parse_topology
from powertcp.mplamps.power import ANY_SOURCE, MeterObject, TariffKind, TariffObject
from powertcp.mplamps.rsvp import ErrorSpec
from tests.cops_messages import MESSAGES as POLICED
from tests.lamp_captures import ADDRESSES, DUSK_NS, TOPOLOGY, link_of, path, refused, resv
from tests.rsvp_messages import MESSAGES, OFFERS, RESV

SMALL = parse_topology(TOPOLOGY, "small.toml")
HANDLE = bytes.fromhex("0000002a")
Said = rsvp.Message | cops.Message | DecodeError


class Ladder:
    """Rungs of the small network, all of whose names are known."""

    def __init__(self, *, has_topology: bool = False) -> None:
        names = Names()
        names.known = {address: name for name, address in ADDRESSES.items()}
        self.rungs = Rungs(names, SMALL if has_topology else None)

    def rung(self, source: str, target: str, said: Said, link: str | None = None) -> Rung:
        is_cops = isinstance(said, cops.Message)
        name = link_of(source, target) if link is None else link
        seen = Sighting(DUSK_NS + 1_500_000, source, target, name, said, is_cops)
        return self.rungs.of(seen)

    def line(self, source: str, target: str, said: Said, link: str | None = None) -> str:
        return line_of(self.rung(source, target, said, link), DUSK_NS)


def text(line: str) -> str:
    """Return what stands after the time and the way."""
    return line.split("  ", 2)[-1].lstrip()


def test_a_line_has_time_way_type_lamp_volts_flow_power_and_price() -> None:
    line = Ladder().line("lamp-1", "h1", path("lamp-1", "lamp-1", "h1"))
    assert line == (
        "        1.500000 ms  lamp-1 -> h1            PATH      lamp-1/1  label 230 = 230 V  F 16"
        "  asks for 230V/0.26A@50Hz,prio=9 = 59.8 W, at least 23 W  limit 0.30 EUR/kWh"
    )
    line = Ladder().line("h1", "lamp-1", resv("lamp-1", "h1"))
    assert line.endswith(
        "RESV      lamp-1/1  label 0 = neutral  F 16  grants 230V/0.26A@50Hz,prio=9,lease=152s = 59.8 W"
        "  quote 0.2841 EUR/kWh of supplier 7"
    )


LINES = {
    "resv-two": "RESV      lamp-1/1  label 0 = neutral  F 16  grants 230V/0.26A@50Hz,prio=9,lease=152s = 59.8 W"
    "  quote 0.2841 EUR/kWh of supplier 7; lamp-1/2  label 0 = neutral  F 17"
    "  grants 230V/0.26A@50Hz,prio=9,lease=152s = 59.8 W",
    "resv-shared": "RESV      all lamps  label 0 = neutral  F 16"
    "  grants 230V/0.26A@50Hz,prio=9,lease=152s = 59.8 W",
    "path-err-offers": "PathErr   lamp-1/1; refused 104 TARIFF: h1 finds no supplier that is wanted"
    " at a price within the limit; offered: 0.2841 EUR/kWh by supplier 7 from es1, and 1 more",
    "resv-err": "ResvErr   lamp-1/1; in place 302 OVER_CURRENT: the meter of lamp-1 counted more"
    " than 125 % of the grant",
    "resv-err-shared": "ResvErr   all lamps; refused 506 STATE: lamp-1 knows no PATH of this session",
    "path-tear": "PathTear  lamp-1/1",
    "resv-tear": "ResvTear  lamp-1/1",
    "resv-tear-shared": "ResvTear  all lamps",
    "resv-conf": "ResvConf  lamp-1/1",
    "ack": "Ack       2 numbers, 1 not known",
    "srefresh": "Srefresh  3 states",
    "hello-request": "Hello     request, instance 00001234 to 00000000",
    "hello-ack": "Hello     answer, instance 00005678 to 00001234",
}


@pytest.mark.parametrize("name", LINES)
def test_each_message_of_rsvp_has_its_line(name: str) -> None:
    message = rsvp.decode_message(rsvp.encode_message(MESSAGES[name])).message
    assert text(Ladder().line("h1", "lamp-1", message)).endswith(LINES[name])


POLICE = {
    "open": "OPN       PEP 10.0.0.4",
    "open again": "OPN       PEP 10.0.0.14, last PDP 10.0.0.9:3288",
    "accept": "CAT       keep-alive 30 s, meters each 60 s",
    "accept without accounting": "CAT       keep-alive 0 s",
    "request": "REQ       lamp-1/1  F 16  asks for 230V/0.26A@50Hz,prio=9 = 59.8 W, at least 23 W"
    "  limit 0.30 EUR/kWh",
    "install": "DEC       install; lamp-1/1  quote 0.29 EUR/kWh of supplier 7",
    "new price": "DEC       install, unasked; lamp-1/1  quote 0.29 EUR/kWh of supplier 7",
    "nothing": "DEC       null; lamp-1/1",
    "remove": "DEC       remove; lamp-1/1; refused 104 TARIFF: 10.0.0.9 finds no supplier that is"
    " wanted at a price within the limit; offered: 0.10 EUR/kWh by supplier 1, and 7 more",
    "not understood": "DEC       not understood: error 13, 1801; lamp-1/1",
    "closed": "RPT       success; lamp-1/1",
    "meter": "RPT       accounting; lamp-1/1; 3,588 J in 60 s",
    "delete": "DRQ       reason 4; lamp-1/1",
    "synchronize": "SSQ",
    "complete": "SSC",
    "keep alive": "KA",
    "close": "CC        error 11",
    "close all": "CC        error 12, ask 10.0.0.9:3288",
}


@pytest.mark.parametrize("name", POLICE)
def test_each_message_of_cops_has_its_line(name: str) -> None:
    ladder, message = Ladder(), POLICED[name]
    ladder.line("h1", "pdp", POLICED["request"])
    from_pep = isinstance(message, lamp_rungs.FROM_PEP)
    ends = ("h1", "pdp") if from_pep else ("pdp", "h1")
    assert text(ladder.line(*ends, message)).endswith(POLICE[name])


def test_a_handle_is_of_a_circuit_until_it_is_deleted() -> None:
    ladder = Ladder()
    before = ladder.line("pdp", "h1", POLICED["install"])
    assert "handle 0000002a  quote" in before
    ladder.line("h1", "pdp", POLICED["request"])
    ladder.line("h1", "pdp", POLICED["delete"])
    assert "handle 0000002a" in ladder.line("pdp", "h1", POLICED["install"])
    # what is no PATH is nobody's
    request = POLICED["request"]
    assert isinstance(request, cops.Request)
    assert "handle 0000002a" in ladder.line("h1", "pdp", replace(request, info=bytes(7)))


def test_only_so_many_handles_and_refusals_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lamp_rungs, "MAX_HANDLES", 1)
    monkeypatch.setattr(lamp_rungs, "MAX_REFUSALS", 1)
    ladder, request = Ladder(), POLICED["request"]
    assert isinstance(request, cops.Request)
    ladder.line("h1", "pdp", request)
    ladder.line("h1", "pdp", replace(request, handle=b"2"))
    assert "handle 0000002a" in ladder.line("pdp", "h1", POLICED["install"])
    ladder.line("c1", "h1", refused("lamp-1", "c1"))
    ladder.line("c1", "h1", refused("lamp-2", "c1"))
    assert "link c1--h1 has" in ladder.line("h1", "lamp-2", refused("lamp-2", "c1"))
    assert "NO_CAPACITY: c1 has" in ladder.line("h1", "lamp-1", refused("lamp-1", "c1"))


def test_a_meter_says_what_it_is() -> None:
    meter = MeterObject.make(
        seconds=1_000, energy_uj=1_500, packets=1, octets=2, is_estimated=True, is_final=True
    )
    report = cops.Report(handle=HANDLE, kind=cops.ReportKind.ACCOUNTING, info=meter.to_wire())
    rung = Ladder().rung("h1", "pdp", report)
    assert line_of(rung, DUSK_NS).endswith("; 0.002 J in 1,000 s, estimated, final")
    assert values_of(rung)["meter"] == {
        "energy_uj": 1_500, "seconds": 1_000, "packets": 1, "octets": 2, "is_estimated": True,
        "is_final": True,
    }  # fmt: skip


@pytest.mark.requirement("MPLA-4.8-01")
def test_a_refusal_names_the_link_of_the_node_that_refuses() -> None:
    ladder = Ladder()
    said = "refused 100 NO_CAPACITY: link c1--h1 has 9,890 mW left at priority 4, asked 59,800 mW"
    assert said in ladder.line("c1", "h1", refused("lamp-1", "c1"))
    ladder.line("h1", "c1", path("lamp-1", "h1", "c1"))
    known = said.replace("c1--h1 has", "c1--h1 (400 V) has")
    # two hops on it is still that link
    assert known in ladder.line("h1", "lamp-1", refused("lamp-1", "c1"))
    # where it was not seen that c1 said it, only c1 is known
    assert "NO_CAPACITY: c1 has" in Ladder().line("h1", "lamp-1", refused("lamp-1", "c1"))
    # a source may be short of power itself
    assert "NO_CAPACITY: es1 has" in ladder.line("es1", "s1", refused("lamp-1", "es1"))


def test_a_topology_knows_links_and_volts_that_a_trace_does_not_tell() -> None:
    ladder = Ladder(has_topology=True)
    assert "link c1--h1 (400 V) has" in ladder.line("c1", "h1", refused("lamp-1", "c1"), link="")
    # a way that no link of the topology goes
    assert "NO_CAPACITY: c1 has" in ladder.line("c1", "lamp-2", refused("lamp-2", "c1"), link="")
    assert "NO_CAPACITY: c1 has" in ladder.line("c1", "x", refused("lamp-2", "c1"), link="")


def test_what_is_odd_is_shown_as_it_is() -> None:
    ladder = Ladder()
    odd = path("lamp-1", "lamp-1", "h1")
    assert "  label 1040000  " in ladder.line(
        "lamp-1", "h1", replace(odd, upstream_label=1_040_000)
    )
    values = values_of(ladder.rung("lamp-1", "h1", replace(odd, upstream_label=1_040_000)))
    assert values["circuits"][0]["voltage_mv"] is None  # type: ignore[index]
    any_price = TariffObject.make(TariffKind.LIMIT, 2**63 - 1, "EUR", supplier=7)
    assert ladder.line("lamp-1", "h1", replace(odd, tariff=any_price)).endswith(
        "  any price of supplier 7"
    )
    answered = rsvp.Rejected(kind=rsvp.Kind.PATH, fault=rsvp.Fault(252, 503), echoed=())
    said = "rejected  PATH that is answered with 252/503: 503 BAD_OPTION"
    assert text(ladder.line("lamp-1", "h1", answered)).endswith(said)
    ladder.line("c1", "h1", replace(odd, upstream_label=1_040_000))
    assert "link c1--h1 has" in ladder.line("c1", "h1", refused("lamp-1", "c1"))


@pytest.mark.parametrize(("is_cops", "kind"), [(False, "RSVP"), (True, "COPS")])
def test_what_cannot_be_read_says_why(is_cops: bool, kind: str) -> None:
    for code, name in ((502, "BAD_LENGTH"), (999, "REASON_999")):
        seen = Sighting(DUSK_NS, "a", "b", "a--b", DecodeError(6, "length", code), is_cops)
        rung = Ladder().rungs.of(seen)
        said = f"{kind}      not read: {code} {name}, length at octet 6"
        assert line_of(rung, DUSK_NS).endswith(said)
        assert not rung.is_of("a")


def test_json_has_integers_with_their_units() -> None:
    rung = Ladder().rung("lamp-1", "h1", path("lamp-1", "lamp-1", "h1"))
    assert values_of(rung) == {
        "at_ns": DUSK_NS + 1_500_000, "from": "lamp-1", "to": "h1", "link": "h1--lamp-1",
        "type": "PATH",
        "circuits": [{
            "lamp": "lamp-1", "lsp": 1, "label": 230, "voltage_mv": 230_000, "flow_label": 16,
            "request": "230V/0.26A@50Hz,prio=9", "request_mw": 59_800,
            "minimum": "230V/0.1A@50Hz,prio=9", "minimum_mw": 23_000,
            "tariffs": [{"kind": "LIMIT", "supplier": 0, "source": str(ANY_SOURCE), "currency": "EUR",
                         "price_micro_per_kwh": 300_000, "valid_s": 0}],
        }],
    }  # fmt: skip
    rung = Ladder().rung("c1", "h1", refused("lamp-1", "c1"))
    values = values_of(rung)
    assert values["error"] == {"node": "c1", "address": "10.0.0.3", "code": 1, "value": 2,
                               "reason": 100, "is_in_place": False}  # fmt: skip
    assert values["sentence"] == rung.sentence
    shared = values_of(Ladder().rung("h1", "lamp-1", MESSAGES["resv-shared"]))  # type: ignore[arg-type]
    assert shared["circuits"][0]["lamp"] is None  # type: ignore[index]


def test_a_rung_is_of_its_lamps_and_a_shared_one_of_all() -> None:
    ladder = Ladder()
    own = ladder.rung("h1", "lamp-1", RESV)
    shared = ladder.rung("h1", "lamp-1", MESSAGES["resv-shared"])  # type: ignore[arg-type]
    ack = ladder.rung("h1", "lamp-1", MESSAGES["ack"])  # type: ignore[arg-type]
    assert [one.is_of("lamp-1") for one in (own, shared, ack)] == [True, True, False]
    assert [one.is_of("lamp-2") for one in (own, shared, ack)] == [False, True, False]


def test_what_is_inside_and_malformed_ends_what_is_said_of_it() -> None:
    decision = POLICED["remove"]
    assert isinstance(decision, cops.Decision)
    cut = replace(decision, data=decision.data[:16] + OFFERS[0].to_wire()[:-4])
    rung = Ladder().rung("pdp", "h1", cut)
    assert rung.error is None
    assert line_of(rung, DUSK_NS).endswith("DEC       remove; handle 0000002a")


def test_an_error_inside_that_is_malformed_ends_it_too() -> None:
    decision = POLICED["remove"]
    assert isinstance(decision, cops.Decision)
    # code 252 without the enterprise number that belongs to it
    short = bytes.fromhex("000c06010a00000904fc0068")
    rung = Ladder().rung("pdp", "h1", replace(decision, data=OFFERS[0].to_wire() + short))
    assert rung.error is None
    assert "offer 0.2841 EUR/kWh of supplier 7" in line_of(rung, DUSK_NS)


def test_an_event_of_a_trace_is_a_line() -> None:
    told = Told(DUSK_NS + 1, "mplamps:act_done", {"node": "h1", "act": "on", "nodes": [], "n": [1]})
    hostile = Told(DUSK_NS, "a:b", {"node": "x\n\x1b[2J"})
    assert told_line(hostile, DUSK_NS).split()[2:] == ["x??[2J", "a:b"]
    line = told_line(told, DUSK_NS)
    assert line == (
        "        0.000001 ms  h1                      mplamps:act_done  act on, nodes none, n 1"
    )


def test_an_error_without_power_says_what_it_knows() -> None:
    bare = replace(refused("lamp-1", "c1"), power=None, error=ErrorSpec(ADDRESSES["c1"], 4, 24, 5))
    line = Ladder().line("c1", "h1", bare)
    assert line.endswith("lamp-1/1; refused 100 NO_CAPACITY: c1 has no way to the source")
