"""authorized_watts on real sockets: who gets what, what a new file does to flows, what ends when."""

# ruff: noqa: SIM117 - a client belongs to its provider

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from powertcp.drivers.authority import AuthorityConfig
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.gatekeeper import Gatekeeper
from powertcp.drivers.ledger import open_ledger
from powertcp.drivers.provider import Provider
from powertcp.drivers.provider_books import ProviderBooks
from powertcp.drivers.report import ProviderReport
from powertcp.drivers.session import CLEAR, Identity, Session
from powertcp.errors import ConfigError, known
from powertcp.ledger import Code
from powertcp.ledger.memo import FlowMemo, read_memo
from powertcp.potcp.events import (
    Ask,
    FlowClosed,
    FlowRefused,
    PageReceived,
    PowerOffered,
    PowerReady,
    RenegotiationAnswered,
    SamplesReceived,
    ShedReceived,
    TicketReceived,
)
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.store import LedgerStore
from powertcp.units import NS_PER_S
from powertcp.vppn.access import OverLimit, Rights, find_rights
from powertcp.vppn.certificate import Certificate, issue_certificate
from powertcp.vppn.identity import Algorithm, PublicKey, SecretKey
from powertcp.vppn.limits import Limits
from powertcp.vppn.revocation import issue_revocations
from tests.drivers.test_billing import Payer
from tests.drivers.test_provider import Client, client, eventually, serving

NOON_S = 1_795_262_400  # 2026-11-21T12:00:00Z
DAY_S = 86_400
ALICE = PublicKey(Algorithm.X25519, bytes(range(32)))
CA = SecretKey(Algorithm.ED25519, bytes([7]) * 32)


class Wall:
    """A clock of the wall that a test sets; it goes on by itself."""

    def __init__(self) -> None:
        self.offset_ns = NOON_S * NS_PER_S - time.monotonic_ns()

    def __call__(self) -> int:
        return time.monotonic_ns() + self.offset_ns


class Site:
    """A provider and the file that says who may draw what."""

    def __init__(
        self, provider: Provider, gate: Gatekeeper, address: str, wall: Wall, identity: Identity
    ) -> None:
        self.provider = provider
        self.gate = gate
        self.address = address
        self.wall = wall
        self.identity = identity  # what the next handshake proves

    @property
    def path(self) -> Path:
        return Path(self.gate.authority.config.authorized)

    def rewrite(self, *lines: str) -> None:
        self.path.write_text("\n".join([*lines, ""]))
        self.gate.reload(self.gate.authority.config)

    async def explained(self) -> dict[str, object]:
        answer = await ProviderReport(self.provider).explain({})
        assert isinstance(answer, dict)
        rows = answer["explanations"]
        assert isinstance(rows, list)
        return dict(rows[0])


@asynccontextmanager
async def guarded(
    folder: Path,
    *lines: str,
    identity: Identity = CLEAR,
    over: OverLimit = OverLimit.REFUSE,
    books: ProviderBooks | None = None,
    wall: Wall | None = None,
) -> AsyncIterator[Site]:
    """A provider that lets in whom `lines` name; `identity`: what each handshake proves.

    A file `krl` in `folder` is a list of what was taken back.
    """
    wall = wall or Wall()
    path, krl = folder / "authorized_watts", folder / "krl"
    path.write_text("\n".join([*lines, ""]))
    config = AuthorityConfig(
        authorized=str(path),
        krls=(str(krl),) if krl.exists() else (),
        over=over,
    )

    sites: list[Site] = []

    class Proved(Session):
        """A session of which the handshake is over."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.identity = sites[0].identity

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("powertcp.drivers.provider.Session", Proved)
        async with serving("20V/10A", rating_mw=200_000) as (provider, [address]):
            if books is not None:
                provider.keep_books(books)
            gate = Gatekeeper(config, provider.admissions, wall)
            await provider.admissions.guard(gate)
            site = Site(provider, gate, address, wall, identity)
            sites.append(site)
            yield site


def certificate(*, serial: int = 4711, hours: int = 8) -> Identity:
    """Who shows a certificate of the employer, and the key that it is for."""
    made = Certificate(
        serial=serial, subject=ALICE, name="alice@lamp", groups=("staff",), limits=Limits(),
        not_before_s=NOON_S - 3600, not_after_s=NOON_S + hours * 3600, issuer=CA.public,
    )  # fmt: skip
    return Identity(is_sealed=True, key=ALICE, certificate=issue_certificate(made, CA))


GUEST = Identity(is_sealed=True)
SEALED = Identity(is_sealed=True, key=ALICE)
EMPLOYER = f"issuer {CA.public} groups=staff max-power=65W employer"


async def powered(sink: Client, request: str, minimum: str | None = None) -> int:
    """Ask, and wait for the power; returns the mW."""
    sink.ask(request, minimum)
    ready = await sink.until(PowerReady)
    assert isinstance(ready, PowerReady)
    return ready.profile.power_mw


async def refused(sink: Client, request: str, minimum: str | None = None) -> FlowRefused:
    sink.ask(request, minimum)
    event = await sink.until(FlowRefused)
    assert isinstance(event, FlowRefused)
    return event


async def ended(sink: Client) -> tuple[Refusal, Refusal | None]:
    """Wait for the SHED to 0 W and the FIN; returns why."""
    shed = await sink.until(ShedReceived)
    assert isinstance(shed, ShedReceived)
    assert shed.ceiling.power_mw == 0
    assert shed.deadline_ms == 10_000
    closed = await sink.until(FlowClosed)
    assert isinstance(closed, FlowClosed)
    assert shed.refusal is not None
    return shed.refusal, closed.refusal


# -- requests ------------------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-5-02")
async def test_65_w_are_granted_and_66_w_refused_with_the_line_that_decided(tmp_path: Path) -> None:
    async with guarded(tmp_path, "# who", "clear max-power=65W voltage=5V-20V") as site:
        async with client(site.address) as sink:
            event = await refused(sink, "20V/3.3A")
            found = event.refusal
            assert (found.code, found.value, found.limit) == (Reason.WATT_LIMIT, 66_000, 65_000)
            assert event.best is not None
            assert event.best.power_mw == 65_000
            why = await site.explained()
            assert why["rule"] == f"{site.path}:2 clear"
            assert why["identity"] == "clear"
            assert "asked 66,000 mW, this peer may have 65,000 mW" in str(why["sentence"])
            assert await powered(sink, "20V/3.25A") == 65_000
            status = await ProviderReport(site.provider).status({"flows": True})
            assert isinstance(status, dict)
            rows = status["flows"]
            assert isinstance(rows, list)
            assert (rows[0]["name"], rows[0]["rule"]) == ("clear", f"{site.path}:2 clear")


@pytest.mark.requirement("VPPN-5-02")
async def test_the_limit_is_for_all_flows_of_an_identity(tmp_path: Path) -> None:
    async with guarded(tmp_path, "clear max-power=65W") as site:
        async with client(site.address) as one, client(site.address) as other:
            assert await powered(one, "20V/2A") == 40_000
            event = await refused(other, "20V/2A")
            assert (event.refusal.value, event.refusal.limit) == (40_000, 25_000)
            assert await powered(other, "20V/2A", "20V/1A") == 25_000
            one.stream.queue(one.machine.close_flow, 1, now=now_ns())
            await one.until(FlowClosed)
            one.ask("20V/2A")
            event_again = await one.until(PowerReady, 2)
            assert isinstance(event_again, PowerReady)


@pytest.mark.requirement("VPPN-5-02")
async def test_what_is_over_a_limit_is_offered_where_the_operator_says_so(tmp_path: Path) -> None:
    async with guarded(tmp_path, "clear max-power=65W", over=OverLimit.OFFER) as site:
        async with client(site.address) as sink:
            flow = sink.ask("20V/5A")
            offered = await sink.until(PowerOffered)
            assert isinstance(offered, PowerOffered)
            assert [offer[0].power_mw for offer in offered.offers] == [65_000]
            sink.stream.queue(sink.machine.accept, flow, offered.offers[0][0], now=now_ns())
            ready = await sink.until(PowerReady)
            assert isinstance(ready, PowerReady)
            assert ready.profile.power_mw == 65_000


@pytest.mark.requirement("VPPN-5-02")
async def test_a_reneg_above_a_limit_keeps_the_terms(tmp_path: Path) -> None:
    async with guarded(tmp_path, "clear max-power=65W") as site:
        async with client(site.address) as sink:
            await powered(sink, "20V/2A")
            asks = [Ask(PowerProfile.parse("20V/3.3A"))]
            sink.stream.queue(sink.machine.renegotiate, 1, asks, now=now_ns())
            answer = await sink.until(RenegotiationAnswered)
            assert isinstance(answer, RenegotiationAnswered)
            assert answer.refusal is not None
            assert (answer.accepted, answer.refusal.code) == (False, Reason.WATT_LIMIT)
            asks = [Ask(PowerProfile.parse("20V/3.25A"))]
            sink.stream.queue(sink.machine.renegotiate, 1, asks, now=now_ns())
            answer = await sink.until(RenegotiationAnswered, 2)
            assert isinstance(answer, RenegotiationAnswered)
            assert answer.accepted


@pytest.mark.parametrize(
    ("identity", "line", "code"),
    [
        (CLEAR, "clear deny", Reason.AUTH_REQUIRED),
        (SEALED, "clear max-power=1W", Reason.WATT_LIMIT),
        (SEALED, f"key {ALICE} deny", Reason.POLICY),
        (SEALED, "guest deny", Reason.KEY_UNKNOWN),
        (SEALED, f"key {ALICE} max-power=65W from=10.0.0.0/8", Reason.POLICY),
        (SEALED, f"key {ALICE} max-power=65W expires=2026-11-21T12:00:00Z", Reason.CERT_EXPIRED),
        (SEALED, f"key {ALICE} voltage=5V-12V", Reason.VOLTAGE_RANGE),
        (SEALED, f"key {ALICE} priority=9", Reason.PRIORITY_DENIED),
        (SEALED, f"key {ALICE} waveform=sine", Reason.WAVEFORM),
        (SEALED, f"key {ALICE} max-current=1A", Reason.CURRENT_RANGE),
        (SEALED, f"key {ALICE} quota=1kWh/day", Reason.POLICY),
    ],
)
async def test_each_limit_has_its_code(
    tmp_path: Path, identity: Identity, line: str, code: Reason
) -> None:
    async with guarded(tmp_path, line, identity=identity) as site:
        async with client(site.address) as sink:
            event = await refused(sink, "20V/2A")
            assert event.refusal.code == code
            assert f"{site.path}:1" in str((await site.explained())["rule"])


async def test_clear_power_is_refused_where_it_must_be_sealed(tmp_path: Path) -> None:
    async with guarded(tmp_path, "clear max-power=65W") as site:
        site.provider.admissions.needs_seal = True
        async with client(site.address) as sink:
            assert (await refused(sink, "20V/2A")).refusal.code == Reason.SEAL_REQUIRED


# -- flows that there are ------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-5-03")
async def test_a_new_file_is_for_running_flows_too_and_a_broken_one_is_not_taken(
    tmp_path: Path,
) -> None:
    async with guarded(tmp_path, "clear max-power=65W") as site:
        async with client(site.address) as sink:
            await powered(sink, "20V/3A")
            with pytest.raises(ConfigError, match=r"authorized_watts:2:7: .*max-power"):
                site.rewrite("clear max-power=10W", "clear max-pover=10W")
            assert site.gate.authority.watts.rules[0].limits.power_mw == 65_000
            site.rewrite("clear max-power=20W")
            shed = await sink.until(ShedReceived)
            assert isinstance(shed, ShedReceived)
            assert shed.refusal is not None
            assert (shed.refusal.code, shed.refusal.limit) == (Reason.WATT_LIMIT, 20_000)
            assert shed.ceiling.power_mw == 20_000
            ready = await sink.until(PowerReady, 2)
            assert isinstance(ready, PowerReady)
            assert (await site.explained())["rule"] == f"{site.path}:1 clear"


@pytest.mark.requirement("VPPN-5-03")
async def test_whom_a_new_file_denies_is_shed_and_closed(tmp_path: Path) -> None:
    async with guarded(tmp_path, "clear max-power=65W") as site:
        async with client(site.address) as sink:
            await powered(sink, "20V/3A")
            site.rewrite("clear deny")
            why, said = await ended(sink)
            assert why.code == Reason.AUTH_REQUIRED
            assert said is not None
            assert said.code == Reason.AUTH_REQUIRED
            await eventually(lambda: site.provider.breaker.held_mw == 0)


async def test_at_the_instant_of_expiry_flows_end(tmp_path: Path) -> None:
    line = "clear max-power=65W expires=2026-11-21T13:00:00Z"
    async with guarded(tmp_path, line) as site:
        async with client(site.address) as sink:
            await powered(sink, "20V/3A")
            site.wall.offset_ns += 3_599 * NS_PER_S
            site.gate.look(next(iter(next(iter(site.provider.sessions)).flows.values())))
            why, said = await ended(sink)
            assert why.code == Reason.CERT_EXPIRED
            assert said is not None
            assert said.code == Reason.CERT_EXPIRED


@pytest.mark.requirement("VPPN-5-05")
async def test_a_certificate_holds_until_it_is_taken_back(tmp_path: Path) -> None:
    def write(*serials: int) -> None:
        octets = issue_revocations(CA, NOON_S - 60, NOON_S + 3600, serials, ())
        (tmp_path / "krl").write_bytes(octets)

    write()
    async with guarded(tmp_path, EMPLOYER, identity=certificate()) as site:
        async with client(site.address) as sink:
            assert (await refused(sink, "20V/3.3A")).refusal.code == Reason.WATT_LIMIT
            sink.seen.clear()
            await powered(sink, "20V/3.25A")
            [flow] = [row for one in site.provider.sessions for row in one.flows.values()]
            assert (flow.who, flow.party) == ("by alice@lamp certificate 4711", str(ALICE))
            write(4711)
            site.gate.reload(site.gate.authority.config)
            why, said = await ended(sink)
            assert why.code == Reason.CERT_REVOKED
            assert said is not None
            assert said.code == Reason.CERT_REVOKED
            assert str((await site.explained())["rule"]).startswith(f"{tmp_path}/krl:5")


@pytest.mark.requirement("VPPN-4-02")
async def test_an_identity_that_is_proved_again_is_evaluated_again(tmp_path: Path) -> None:
    async with guarded(tmp_path, EMPLOYER, identity=certificate(hours=1)) as site:
        async with client(site.address) as sink:
            await powered(sink, "20V/3A")
            [session] = site.provider.sessions
            session.identity = certificate(serial=4712)
            site.gate.proved_again(session)
            [flow] = session.flows.values()
            assert flow.who == "by alice@lamp certificate 4712"
            session.identity = SEALED
            site.gate.proved_again(session)
            assert (await ended(sink))[0].code == Reason.KEY_UNKNOWN


@pytest.mark.requirement("VPPN-4-02")
async def test_one_handshake_is_one_evaluation_whatever_the_number_of_flows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarded(tmp_path, EMPLOYER, identity=certificate()) as site:
        async with client(site.address) as one, client(site.address) as other:
            for sink in (one, other):
                for _ in range(6):
                    sink.ask("20V/0.1A")
                await sink.until(PowerReady, 6)
            done: Counter[str] = Counter()

            def counting(name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
                def counted(*arguments: Any) -> Any:
                    done[name] += 1
                    return verb(*arguments)

                return counted

            appraise = counting("appraised", find_rights)
            monkeypatch.setattr("powertcp.drivers.gatekeeper.find_rights", appraise)
            monkeypatch.setattr(Rights, "allow", counting("allowed", Rights.allow))
            session = next(iter(site.provider.sessions))
            site.gate.proved_again(session)
            assert done == {"appraised": 1, "allowed": 12}
            done.clear()
            site.gate.recheck()
            assert done == {"appraised": 2, "allowed": 12}


# -- quotas --------------------------------------------------------------------------------------


@asynccontextmanager
async def booked(
    folder: Path, *lines: str, identity: Identity = CLEAR, wall: Wall | None = None
) -> AsyncIterator[Site]:
    """The same with a ledger."""
    wall = wall or Wall()
    async with open_ledger(folder, os.urandom, unix_ns=wall) as ledger:
        books = ProviderBooks(ledger, unix_ns=wall)
        async with books.keeping():
            async with guarded(folder, *lines, identity=identity, books=books, wall=wall) as site:
                yield site


def balances(folder: Path) -> dict[str, int]:
    with LedgerStore(folder / "ledger.db", read_only=True) as store:
        assert store.verify() == []
        return {account.name: -account.balance for account in store.accounts()}


def memos(folder: Path) -> set[str]:
    """Who drew, by the memos of the journal."""
    with LedgerStore(folder / "ledger.db", read_only=True) as store:
        texts = [entry.memo for entry in store.entries()]
    found = [(text, read_memo(text)) for text in texts]
    return {memo.who if isinstance(memo, FlowMemo) else text for text, memo in found}


async def suspended(payer: Payer, count: int = 1) -> Refusal:
    shed = await payer.until(ShedReceived, count)
    assert isinstance(shed, ShedReceived)
    assert shed.ceiling.power_mw == 0
    assert shed.refusal is not None
    return shed.refusal


@pytest.mark.requirement("VPPN-5-09", "VPPN-5-10")
async def test_a_quota_suspends_until_it_is_renewed_and_the_books_say_who(tmp_path: Path) -> None:
    line = f"issuer {CA.public} quota=40J/hour,1kWh/month employer"
    async with booked(tmp_path, line, identity=certificate()) as site:
        async with client(site.address) as sink:
            payer = Payer(sink)
            payer.ask("20V/1A")
            why = await suspended(payer)
            assert (why.code, why.limit) == (Reason.ENERGY_QUOTA, 40_000_000)
            assert 3_500_000 < why.retry_ms <= 3_600_000
            # a second flow of the same key has no more, whatever its address
            async with client(site.address) as other:
                theirs = Payer(other)
                theirs.ask("20V/1A")
                event = await theirs.until(FlowRefused)
                assert isinstance(event, FlowRefused)
                assert event.refusal.code == Reason.ENERGY_QUOTA
            site.wall.offset_ns += 3_600 * NS_PER_S
            [flow] = [row for one in site.provider.sessions for row in one.flows.values()]
            site.gate.look(flow)
            # the first terms, those of 0 W, and these
            ready = await payer.until(PowerReady, 3)
            assert isinstance(ready, PowerReady)
            assert ready.profile.power_mw == 20_000
            await suspended(payer, 2)
            await payer.close(1)
        await eventually(lambda: not any(one.flows for one in site.provider.sessions))
    had_uj = balances(tmp_path)[f"sink:{ALICE}"]
    assert 70_000_000 < had_uj <= 80_000_000
    assert memos(tmp_path) == {"by alice@lamp certificate 4711"}


@pytest.mark.requirement("VPPN-5-09")
async def test_a_restart_gives_nothing_of_a_window_back(tmp_path: Path) -> None:
    wall = Wall()
    async with booked(tmp_path, f"key {ALICE} quota=40J/day", identity=SEALED, wall=wall) as site:
        async with client(site.address) as sink:
            payer = Payer(sink)
            payer.ask("20V/1A")
            await suspended(payer)
            await payer.close(1)
    before = balances(tmp_path)[f"sink:{ALICE}"]
    assert before > 35_000_000
    async with booked(tmp_path, f"key {ALICE} quota=50J/day", identity=SEALED, wall=wall) as site:
        async with client(site.address) as sink:
            payer = Payer(sink)
            payer.ask("20V/1A")
            await suspended(payer)
            await payer.close(1)
    assert before < balances(tmp_path)[f"sink:{ALICE}"] <= 50_000_000
    wall.offset_ns += 86_400 * NS_PER_S
    async with booked(tmp_path, f"key {ALICE} quota=50J/day", identity=SEALED, wall=wall) as site:
        async with client(site.address) as sink:
            payer = Payer(sink)
            payer.ask("20V/1A")
            ready = await payer.until(PowerReady)
            assert isinstance(ready, PowerReady)
            assert ready.profile.power_mw == 20_000


async def test_who_has_a_quota_countersigns_receipts(tmp_path: Path) -> None:
    async with booked(tmp_path, "clear quota=1kWh/day") as site, client(site.address) as sink:
        assert (await refused(sink, "20V/1A")).refusal.code == Reason.PAYMENT_REQUIRED


@pytest.mark.requirement("VPPN-5-03", "VPPN-5-09")
async def test_a_new_quota_is_for_running_flows_too(tmp_path: Path) -> None:
    async with booked(tmp_path, "clear max-power=65W") as site, client(site.address) as sink:
        payer = Payer(sink)
        payer.ask("20V/1A")
        await payer.until(PageReceived, 2)
        site.rewrite("clear max-power=65W quota=1J/day")
        [book] = known(site.provider.admissions.billing.books, "it keeps some").supplied
        assert book.allowance is not None
        why = await suspended(payer)
        assert (why.code, why.limit) == (Reason.ENERGY_QUOTA, 1_000_000)


@pytest.mark.requirement("VPPN-5-09")
async def test_clear_power_and_a_guest_of_one_address_do_not_touch_each_others_quota(
    tmp_path: Path,
) -> None:
    lines = ("guest max-power=65W quota=40J/hour", "clear max-power=10W")
    async with booked(tmp_path, *lines, identity=GUEST) as site:
        async with client(site.address) as sink:
            payer = Payer(sink)
            payer.ask("20V/1A")
            await payer.until(SamplesReceived)
            site.identity = CLEAR
            async with client(site.address) as other:
                assert (await refused(other, "20V/1A")).refusal.code == Reason.WATT_LIMIT
                clear = Payer(other)
                clear.ask("20V/0.1A")
                await clear.until(PageReceived)
                why = await suspended(payer)
                assert (why.code, why.value, why.limit) == (205, 40_000_000, 40_000_000)
                site.gate.recheck()
                await clear.until(PageReceived, 2)
                assert not clear.count(ShedReceived)
                assert not payer.count(FlowClosed)
                await clear.close(3)
            await payer.close(1)
    had = balances(tmp_path)
    assert 35_000_000 < had["sink:guest:127.0.0.1"] <= 40_000_000
    assert had["sink:127.0.0.1"] > 0


async def test_what_was_not_signed_of_a_flow_with_receipts_is_posted_as_such(
    tmp_path: Path,
) -> None:
    async with booked(tmp_path, "clear max-power=65W") as site, client(site.address) as sink:
        payer = Payer(sink)
        payer.signs = False
        flow = payer.ask("20V/1A")
        batch = await payer.until(SamplesReceived, 2)
        assert isinstance(batch, SamplesReceived)
        payer.queue(sink.machine.reset_flow, flow, Refusal(Reason.NORMAL))
        await eventually(lambda: not any(one.flows for one in site.provider.sessions))
    assert balances(tmp_path)["sink:127.0.0.1"] >= batch.esn_uj
    with LedgerStore(tmp_path / "ledger.db", read_only=True) as store:
        assert {entry.code for entry in store.entries()} == {Code.UNSIGNED}


@pytest.mark.requirement("VPPN-5-12")
async def test_without_receipts_there_is_no_quota_that_comes_later(tmp_path: Path) -> None:
    async with booked(tmp_path, "clear max-power=65W") as site, client(site.address) as sink:
        await powered(sink, "20V/1A")
        books = known(site.provider.admissions.billing.books, "it keeps some")
        books.limit(requires_receipts=True, quota_uj=None)
        asks = [Ask(PowerProfile.parse("20V/2A"))]
        sink.stream.queue(sink.machine.renegotiate, 1, asks, now=now_ns())
        answer = await sink.until(RenegotiationAnswered)
        assert isinstance(answer, RenegotiationAnswered)
        assert answer.refusal is not None
        assert answer.refusal.code == Reason.PAYMENT_REQUIRED
        site.rewrite("clear max-power=65W quota=1kWh/day")
        why, said = await ended(sink)
        assert why.code == Reason.PAYMENT_REQUIRED
        assert said is not None
        assert said.code == Reason.PAYMENT_REQUIRED


LATER = (f"issuer {CA.public} groups=staff max-power=65W quota=40J/hour", "guest max-power=10W")


@pytest.mark.requirement("VPPN-5-12", "VPPN-4-02", "VPPN-5-09")
async def test_a_certificate_that_comes_at_the_rekey_ends_what_a_guest_began(
    tmp_path: Path,
) -> None:
    async with booked(tmp_path, *LATER, identity=SEALED) as site:
        async with client(site.address) as sink:
            await powered(sink, "20V/3A", "20V/0.1A")
            [session] = site.provider.sessions
            session.identity = certificate()
            site.gate.proved_again(session)
            why, said = await ended(sink)
            assert why.code == Reason.IDENTITY_MISMATCH
            assert said is not None
            assert said.code == Reason.IDENTITY_MISMATCH


# -- another path --------------------------------------------------------------------------------


async def resumed(sink: Client, other: Client, request: str) -> None:
    """Ask on `other` for the flow of `sink`, by its ticket."""
    ticket = await sink.until(TicketReceived)
    assert isinstance(ticket, TicketReceived)
    await sink.until(SamplesReceived, 2)
    esn_uj = sink.machine.status(sink.machine.flows[0]).esn_uj
    other.ask(request, ticket=ticket.ticket, esn_uj=esn_uj)


async def test_a_ticket_takes_the_rights_along_and_counts_once(tmp_path: Path) -> None:
    async with guarded(tmp_path, "clear max-power=65W") as site:
        async with client(site.address) as old, client(site.address) as new:
            await powered(old, "20V/3.25A")
            await resumed(old, new, "20V/3.25A")
            ready = await new.until(PowerReady)
            assert isinstance(ready, PowerReady)
            assert ready.profile.power_mw == 65_000
            # nothing is left beside it, and all of it once it is over
            assert (await refused(old, "20V/1A")).refusal.limit == 0
            site.rewrite("clear max-power=20W")
            shed = await new.until(ShedReceived)
            assert isinstance(shed, ShedReceived)
            assert shed.ceiling.power_mw == 20_000
            [flow] = new.machine.flows
            new.stream.queue(new.machine.close_flow, flow, now=now_ns())
            await new.until(FlowClosed)
            site.rewrite("clear max-power=65W")
            async with client(site.address) as third:
                assert await powered(third, "20V/3.25A") == 65_000


@pytest.mark.requirement("VPPN-2.2-04")
async def test_a_ticket_is_of_no_use_in_clear_where_power_must_be_sealed(tmp_path: Path) -> None:
    async with guarded(tmp_path, "clear max-power=65W") as site:
        async with client(site.address) as old, client(site.address) as new:
            await powered(old, "20V/3A")
            site.provider.admissions.needs_seal = True
            await resumed(old, new, "20V/3A")
            closed = await new.until(FlowClosed)
            assert isinstance(closed, FlowClosed)
            assert closed.refusal is not None
            assert closed.refusal.code == Reason.SEAL_REQUIRED
            await eventually(lambda: site.provider.breaker.held_mw == 0)


@pytest.mark.requirement("VPPN-5-12", "VPPN-5-09")
async def test_a_certificate_that_comes_with_a_ticket_ends_what_a_guest_began(
    tmp_path: Path,
) -> None:
    async with booked(tmp_path, *LATER, identity=SEALED) as site:
        async with client(site.address) as old:
            await powered(old, "20V/0.5A")
            site.identity = certificate()
            async with client(site.address) as new:
                await resumed(old, new, "20V/0.5A")
                closed = await new.until(FlowClosed)
                assert isinstance(closed, FlowClosed)
                assert closed.refusal is not None
                assert closed.refusal.code == Reason.IDENTITY_MISMATCH
                await eventually(lambda: site.provider.breaker.held_mw == 0)
