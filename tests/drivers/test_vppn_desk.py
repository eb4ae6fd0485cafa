"""Whom a gateway remembers, and for how long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from powertcp.drivers import windows
from powertcp.drivers.authority import AuthorityConfig, read_authority
from powertcp.drivers.ledger import open_ledger
from powertcp.drivers.session import CLEAR, Identity
from powertcp.drivers.vppn_books import CUT_NS, EmployeeBooks
from powertcp.drivers.vppn_desk import GatewayDesk
from powertcp.drivers.vppn_gateway import RelaySession
from powertcp.drivers.vppn_trace import SideTraces
from powertcp.drivers.windows import SETTLED_S
from powertcp.profile import ProfileType
from powertcp.reclaim.relay import Seen
from powertcp.reclaim.track import End, Phase, Sighting, TrackedFlow, What
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.vppn.access import Rights
from powertcp.vppn.limits import Limits, Period, format_moment
from tests.conversation import ask, counting_entropy, profile
from tests.drivers.employees import drawing
from tests.drivers.gateways import ALICE
from tests.middle import MiddlePair

NOW_NS = 1_795_000_000 * NS_PER_S
SEALED = Identity(is_sealed=True)
KEYED = Identity(is_sealed=True, key=ALICE.public)
UNLIMITED = Rights("guest", "file:1 guest", Limits(), ())


@dataclass
class Site:
    """A desk with its books, and a clock of the wall that stands still unless it is set."""

    desk: GatewayDesk
    books: EmployeeBooks
    clock: list[int]
    watts: Path

    def wait(self, seconds: int) -> None:
        self.clock[0] += seconds * NS_PER_S

    def come(self, host: str, identity: Identity = SEALED) -> RelaySession:
        """Let a device come that has proven who it is."""
        session = RelaySession(host, 9, b"", SideTraces(None))
        session.identity, session.relay = identity, MiddlePair().relay
        self.desk.admit(session)
        return session

    def read(self, text: str) -> None:
        """Go by other lines of authorized_watts."""
        self.watts.write_text(text)
        self.desk.take(read_authority(self.desk.authority.config, is_start=False))

    def remembered(self) -> int:
        """Return how many employees are counted, after a look at who left."""
        self.books.windows.has_room("nobody", UNLIMITED)
        return len(self.books.windows) // len(Period)


@asynccontextmanager
async def site(folder: Path, text: str) -> AsyncIterator[Site]:
    clock, watts = [NOW_NS], folder / "authorized_watts"
    watts.write_text(text)
    watts.chmod(0o644)
    desk = GatewayDesk(AuthorityConfig(authorized=str(watts)), lambda: clock[0])
    async with open_ledger(folder, counting_entropy(), unix_ns=lambda: clock[0]) as ledger:
        desk.books = EmployeeBooks(ledger, lambda: clock[0])
        async with desk.books.keeping():
            yield Site(desk, desk.books, clock, watts)


async def test_who_came_and_drew_nothing_is_forgotten(tmp_path: Path) -> None:
    async with site(tmp_path, "guest quota=1kJ/day\n") as where:
        sessions = [where.come(f"10.0.0.{number}") for number in range(50)]
        again = where.come("10.0.0.7")
        assert where.remembered() == 50
        for session in sessions:
            where.desk.close(session)
        where.wait(SETTLED_S)
        # another device of the same address is there
        assert where.remembered() == 1
        where.desk.close(again)
        where.wait(SETTLED_S)
        assert where.remembered() == 0


async def test_who_may_still_be_told_to_have_drawn_is_not_forgotten(tmp_path: Path) -> None:
    async with site(tmp_path, "guest quota=1kJ/day\n") as where:
        session = where.come("10.0.0.7")
        flow = drawing(700)
        flow.source_key = flow.sink_key = b"k" * 32
        account = where.books.open(flow, "10.0.0.7", "inside", "", "HERE/1")
        account.note_ticket(b"t")
        where.books.left(flow, is_cut=True)
        where.desk.close(session)
        where.wait(SETTLED_S)
        assert where.remembered() == 1
        where.wait(CUT_NS // NS_PER_S)
        await where.books.post_due()
        assert where.books.used_uj("10.0.0.7")[Period.DAY] == 700
        where.wait(32 * 86_400)
        assert where.remembered() == 0


async def test_a_device_that_has_another_name_counts_for_that_one(tmp_path: Path) -> None:
    async with site(tmp_path, f"key {ALICE.public} max-power=9W alice@lamp\n") as where:
        session = where.come("10.0.0.7", KEYED)
        where.read(f"key {ALICE.public} max-power=9W alice@desk\n")
        admitted = where.desk.admitted(session)
        assert admitted is not None
        assert admitted.name == "alice@desk"
        assert where.remembered() == 2
        where.wait(SETTLED_S)
        assert where.remembered() == 1
        where.read("guest max-power=9W\n")
        where.wait(SETTLED_S)
        assert where.remembered() == 1
        where.desk.close(session)
        where.wait(SETTLED_S)
        assert where.remembered() == 0


async def test_there_is_a_bound_and_who_has_a_quota_is_refused_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MAX_COUNTED", 2 * len(Period))
    text = "clear from=10.0.0.0/24 quota=1kJ/day\nclear max-power=9W\n"
    async with site(tmp_path, text) as where:
        for number in range(2):
            where.come(f"10.0.0.{number}", CLEAR)
        for number in range(2):
            admitted = where.desk.admitted(where.come(f"10.0.1.{number}", CLEAR))
            assert admitted is not None
            assert isinstance(admitted.rights, Rights)
        late = where.come("10.0.0.9", CLEAR)
        admitted = where.desk.admitted(late)
        assert admitted is not None
        assert isinstance(admitted.rights, Refusal)
        assert admitted.rights.code == Reason.NO_CAPACITY
        assert where.remembered() == 2


def powered(where: Site, session: RelaySession, text: str) -> TrackedFlow:
    """Let `session` have power, on a relay of its own."""
    pair = MiddlePair()
    pair.energise(text)
    flow, session.relay = pair.flow, pair.relay
    assert where.desk.judge(session, flow, flow.asks) is None
    admitted = where.desk.admitted(session)
    assert admitted is not None
    where.books.open(flow, admitted.name, "inside", "", "HERE/1")
    return flow


def ending(where: Site) -> list[TrackedFlow]:
    """Return the flows that the desk ends."""
    return [flow for flow, session in where.desk.flows if session.relay.is_ending(flow)]


@pytest.mark.requirement("VPPN-5-03", "VPPN-6-02")
async def test_a_new_file_is_held_against_the_sum_and_the_oldest_flows_go_on(
    tmp_path: Path,
) -> None:
    async with site(tmp_path, "guest max-power=100W\n") as where:
        flows = [
            powered(where, where.come("10.0.0.7"), text)
            for text in ("12V/2A", "12V/3A", "12V/1.5A")
        ]
        other = powered(where, where.come("10.0.0.8"), "12V/3A")
        assert ending(where) == []
        where.read("guest max-power=50W\n")
        # 24 W, no room for 36 W, 18 W
        assert ending(where) == [flows[1]]
        where.read("guest max-power=20W\n")
        assert ending(where) == [*flows[:2], other]


@pytest.mark.requirement("VPPN-5-12")
async def test_a_flow_that_would_count_for_another_ends(tmp_path: Path) -> None:
    line = f"key {ALICE.public} max-power=100W"
    async with site(tmp_path, f"{line} alice@lamp\n") as where:
        session = where.come("10.0.0.7", KEYED)
        flow = powered(where, session, "12V/2A")
        where.read(f"{line} quota=1kJ/day alice@lamp\n")
        assert ending(where) == []
        where.read(f"{line} alice@desk\n")
        assert ending(where) == [flow]


@pytest.mark.requirement("VPPN-5-12")
async def test_a_request_that_finds_another_name_does_not_hide_it(tmp_path: Path) -> None:
    ends = format_moment(NOW_NS // NS_PER_S + 60)
    line = f"key {ALICE.public} max-power=50W expires={ends} alice@lamp\n"
    async with site(tmp_path, line) as where:
        session = where.come("10.0.0.7", KEYED)
        flow = powered(where, session, "12V/2A")
        where.wait(60)
        denial = where.desk.judge(session, flow, (ask("12V/1A"),))
        assert denial is not None
        assert denial.refusal.code == Reason.CERT_EXPIRED
        assert ending(where) == []
        where.desk.check()
        assert ending(where) == [flow]


@pytest.mark.requirement("VPPN-6-02", "PTCP-10-03")
async def test_a_device_at_its_limit_may_take_another_path(tmp_path: Path) -> None:
    async with site(tmp_path, "guest max-power=65W\n") as where:
        old = powered(where, where.come("10.0.0.7"), "12V/5A")
        account = where.books.of(old)
        assert account is not None
        account.note_ticket(b"good")
        # nobody knows yet that its old path is gone
        session, wish = where.come("10.0.0.7"), (ask("12V/5A"),)
        wrong = TrackedFlow(1, End.CLIENT, 0, wish, ticket=b"bad")
        assert where.desk.judge(session, wrong, wish) is not None
        flow = TrackedFlow(3, End.CLIENT, 0, wish, ticket=b"good")
        assert where.desk.judge(session, flow, wish) is None
        # the provider goes on where the old flow was, or begins another one
        flow.phase, flow.base_uj = Phase.OFFERED, 1_000
        assert where.desk.judge(session, flow, wish) is None
        flow.base_uj = 0
        denial = where.desk.judge(session, flow, wish)
        assert denial is not None
        assert denial.refusal.code == Reason.WATT_LIMIT


async def test_what_a_flow_took_before_it_is_ready_is_held_and_its_own_claim_is_not(
    tmp_path: Path,
) -> None:
    async with site(tmp_path, "guest max-power=65W\n") as where:
        session, wish = where.come("10.0.0.7"), (ask("12V/1A"),)
        first, other = (TrackedFlow(number, End.CLIENT, 0, wish) for number in (1, 3))
        assert where.desk.judge(session, first, wish) is None
        first.taken = profile("12V/5A", ProfileType.GRANT)
        assert where.desk.judge(session, first, (ask("12V/5A"),)) is None
        denial = where.desk.judge(session, other, wish)
        assert denial is not None
        refusal = denial.refusal
        assert (refusal.code, refusal.value, refusal.limit) == (Reason.WATT_LIMIT, 12_000, 5_000)
        assert refusal.text == "beside 60,000 mW of its other flows"


async def test_a_device_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    async with site(tmp_path, "guest max-power=65W\n") as where:
        gone, here = where.come("10.0.0.7"), where.come("10.0.0.7")
        wish = (ask("12V/5A"),)
        lost, flow = (TrackedFlow(number, End.CLIENT, 0, wish) for number in (1, 3))
        assert where.desk.judge(gone, lost, wish) is None
        denial = where.desk.judge(here, flow, wish)
        assert denial is not None
        assert denial.refusal.code == Reason.WATT_LIMIT
        # nobody said that its flow is over
        where.desk.close(gone)
        assert [flow for flow, _ in where.desk.flows] == []
        assert where.desk.judge(here, flow, wish) is None
        where.desk.recheck()
        assert list(where.desk.flows) == [(flow, here)]


@pytest.mark.requirement("VPPN-6-03", "VPPN-6-05")
async def test_an_employee_is_weighed_once_for_all_flows_of_a_wake_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, "guest quota=100J/day\n") as where:
        session = where.come("10.0.0.7")
        flows = [drawing(0, TrackedFlow(number, End.CLIENT, 0)) for number in (1, 3, 5)]
        for flow in flows:
            where.books.open(flow, "10.0.0.7", "inside", "", "HERE/1")
        looks: list[str] = []
        used_uj = where.books.used_uj

        def look(name: str) -> dict[Period, int]:
            looks.append(name)
            return used_uj(name)

        monkeypatch.setattr(where.books, "used_uj", look)
        for flow in flows:
            drawing(300_000, flow)
        where.desk.heed(session, [Seen(sighting=Sighting(What.BLOCK, flow)) for flow in flows])
        assert looks == ["10.0.0.7"]
        # no 1 % of the quota is lost with us
        await where.books.settle()
        assert where.books.balance()["open_uj"] == 900_000
        drawing(400_000, flows[0])
        where.desk.heed(session, [Seen(sighting=Sighting(What.BLOCK, flows[0]))])
        await where.books.settle()
        assert where.books.balance()["booked_uj"] == 1_000_000
        assert where.books.balance()["open_uj"] == 0
