"""A device inside and a provider, both real, with a firewall between them or its reservoir behind.

The device asks, draws all it was granted for some time, closes, and signs the receipt. For the
simulations of a firewall. FWRL section 5.
"""

from ipaddress import ip_address
from typing import Final

from powertcp.crypto import SigningKey
from powertcp.dve import Synth, encode_block
from powertcp.ledger import Clock, Code, PageChain, Side, Verdict, verify_pages
from powertcp.potcp import ConnectionConfig, PowerConnection
from powertcp.potcp.config import RECEIPT_UJ
from powertcp.potcp.events import (
    Ask,
    FlowClosed,
    PageFacts,
    PageReceived,
    PageSigned,
    PowerAccepted,
    PowerRequested,
    SamplesReceived,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.reclaim.scenario import RESERVOIR
from powertcp.reclaim.screen import Screen
from powertcp.reclaim.stage import START, UNIX_NS, Stage
from powertcp.reclaim.watch import Party
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S, Instant
from powertcp.wire.options import Meter

# FWRL-4-04: of what is lent, and the part of what can be drawn that all grants are at most
LEASE_S: Final = 10
SAFE_PERCENT: Final = 90
_SAMPLES: Final = 100
_RECEIPT_S: Final = 3_600
_ROUNDS: Final = 64


class Guest:
    """One such device. lender: the reservoir of the stage gives, and nothing is in between.

    terms: what it asks for. verified_uj: what it has. pages: receipts that both
    signed.
    """

    def __init__(
        self,
        stage: Stage,
        number: int,
        terms: PowerProfile,
        seconds: int,
        provider: Party | None = None,
    ) -> None:
        """Ask at the next `act`. provider: whom it asks through the firewall; None: the lender."""
        self._stage = stage
        self._terms = terms
        self._blocks = seconds * 10
        self.party = _party(f"10.0.1.{number}", 40_000 + number)
        self.screen: Screen | None = None
        self.is_lent = provider is None
        if provider is not None:
            self.screen = Screen(stage.firewall, self.party, provider, is_client_inside=True)
        entropy = stage.rng.bytes
        config = ConnectionConfig(lease_s=LEASE_S if self.is_lent else 60)
        self._sink = PowerConnection(client=True, config=config, entropy=entropy)
        self._source = PowerConnection(client=False, config=config, entropy=entropy)
        keys = SigningKey(entropy(32)), SigningKey(entropy(32))
        self._sink_key, self._source_key = keys
        self._held = PageChain(keys[0], Side.SINK, UNIX_NS + START)
        self._made = PageChain(keys[1], Side.SOURCE, UNIX_NS + START)
        self._source.sign_page = self._sign
        self.verified_uj = self.drawn_uj = self._promised_uj = 0
        self.pages: list[bytes] = []
        self._flow = 0
        self._synth: Synth | None = None
        self._counter = self._sent = 0
        self._block_at: Instant | None = None
        self._is_asked = self._is_closing = self.is_over = False

    @property
    def power_mw(self) -> int:
        """What it asks for."""
        return self._terms.power_mw

    # --- time ---------------------------------------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return when something is due."""
        if not self._is_asked:
            return self._stage.now
        screen_at = self.screen.client.get_timer() if self.screen is not None else None
        times = (self._sink.get_timer(), self._source.get_timer(), screen_at, self._block_at)
        return min((at for at in times if at is not None), default=None)

    def act(self, now: Instant) -> None:
        """Do what is due at `now`, and let both sides hear of it."""
        if not self._is_asked:
            self._ask(now)
        for end in (self._sink, self._source):
            end.handle_timer(now)
        if self.screen is not None:
            self._stage.wake(self.screen)
        self._exchange(now)
        if self._block_at is not None and self._block_at <= now:
            self._deliver(now)
            self._exchange(now)

    def _ask(self, now: Instant) -> None:
        self._is_asked = True
        self._source.start(now)
        meter = Meter(_RECEIPT_S, RECEIPT_UJ, self._sink_key.public)
        self._flow = self._sink.open_flow([Ask(self._terms)], meter=meter, now=now)

    # --- octets -------------------------------------------------------------------------------

    def _exchange(self, now: Instant) -> None:
        """Carry octets until everybody is silent."""
        for _ in range(_ROUNDS):
            if not self._carry(now) and not self._hear(now):
                break

    def _carry(self, now: Instant) -> bool:
        asked, said = self._sink.data_to_send(), self._source.data_to_send()
        if self.screen is not None:
            if asked:
                self._stage.feed(self.screen.client, asked)
            if said:
                self._stage.feed(self.screen.server, said)
            asked, said = self.screen.server.data_to_send(), self.screen.client.data_to_send()
            for leg in (self.screen.client, self.screen.server):
                while leg.next_event() is not None:
                    pass
        if asked:
            self._source.receive_data(asked, now)
        if said:
            self._sink.receive_data(said, now)
        return bool(asked or said)

    def _hear(self, now: Instant) -> bool:
        """Let both owners act on what they are told; False when there is nothing to act on."""
        has_acted = False
        for event in self._source.take_events():
            match event:
                case PowerRequested():
                    self._grant(now)
                case PowerAccepted():
                    self._source.ready(self._flow, now=now)
                    self._block_at = now
                case PageSigned():
                    self.pages.append(event.octets)
                    self._source.keep_page(self._flow, event.octets, now=now)
                case FlowClosed():
                    self._draw(event.acked_uj)
                case _:
                    continue
            has_acted = True
        for event in self._sink.take_events():
            match event:
                case SamplesReceived():
                    self.verified_uj += event.energy_uj
                case PageReceived():
                    self._countersign(event, now)
                    has_acted = True
                case _:
                    pass
        self._look(now)
        return has_acted

    def _look(self, now: Instant) -> None:
        """Draw what was acknowledged; close when all was delivered, leave when both are done."""
        is_given = self._flow in self._source.flows
        if is_given:
            self._draw(self._source.status(self._flow).acked_uj)
        if self._flow not in self._sink.flows:
            if not is_given:
                self._leave()
        elif self._sent >= self._blocks and not self._is_closing:
            # nothing is under way
            self._is_closing = True
            self._sink.close_flow(self._flow, now=now)

    # --- power --------------------------------------------------------------------------------

    def _grant(self, now: Instant) -> None:
        profile = self._terms
        if self.is_lent:
            # FWRL-4-04
            reservoir = self._stage.firewall.intakes[RESERVOIR].reservoir
            safe_mw = reservoir.drawable_uj * SAFE_PERCENT // (100 * 1000 * LEASE_S)
            if profile.power_mw > safe_mw:
                refusal = Refusal(Reason.NO_CAPACITY, profile.power_mw, safe_mw)
                self._source.refuse(self._flow, refusal, now=now)
                return
            self._promised_uj = profile.power_mw * 1000 * LEASE_S
            reservoir.promise(self._promised_uj)
            profile = profile.with_type(ProfileType.GRANT, lease_s=LEASE_S, giveback=True)
        meter = Meter(_RECEIPT_S, RECEIPT_UJ, self._source_key.public)
        self._source.grant(self._flow, profile, meter=meter, now=now)

    def _deliver(self, now: Instant) -> None:
        """Send the next block, as far as credit lasts."""
        status = self._source.status(self._flow)
        if status.profile is None or status.sampling is None:
            return
        if self._synth is None:
            self._synth = Synth(status.profile, status.sampling)
        power_mw = status.profile.power_mw
        block = encode_block(self._counter, self._synth.block(self._counter, _SAMPLES, power_mw))
        if self._source.send_samples(self._flow, [block], now=now):
            self._counter += _SAMPLES
            self._sent += 1
        self._block_at = now + NS_PER_S // 10 if self._sent < self._blocks else None

    def _draw(self, acked_uj: int) -> None:
        """Take out of the reservoir what the device has acknowledged."""
        energy_uj = acked_uj - self.drawn_uj
        if not self.is_lent or energy_uj <= 0:
            return
        self.drawn_uj = acked_uj
        firewall = self._stage.firewall
        firewall.intakes[RESERVOIR].reservoir.promise(-energy_uj)
        firewall.draw(RESERVOIR, f"lent:{self.party.account}", energy_uj, Code.LEND)
        firewall.intakes[RESERVOIR].reservoir.promise(energy_uj)

    def _leave(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self.is_lent:
            self._stage.firewall.intakes[RESERVOIR].reservoir.promise(-self._promised_uj)
        if self.screen is not None:
            self.screen.client.receive_eof(self._stage.now)

    # --- receipts -----------------------------------------------------------------------------

    def _sign(self, facts: PageFacts) -> bytes:
        return self._made.next_page(facts, UNIX_NS + facts.at_ns, Clock.RELATIVE)

    def _countersign(self, event: PageReceived, now: Instant) -> None:
        """Sign the page if it says what we counted; one that does not is disputed."""
        facts = event.facts
        found = self._held.check(event.octets, facts, UNIX_NS + facts.at_ns, Clock.RELATIVE)
        if found:
            self._sink.dispute(event.flow, found[0].refusal(), now=now)
            return
        self._sink.countersign(event.flow, self._held.countersign(event.octets), now=now)

    @property
    def receipt_uj(self) -> int:
        """What the receipts prove, from nothing but them: 0 when one of them is not valid."""
        found = verify_pages([("receipts", b"".join(self.pages))]) if self.pages else []
        if any(one.verdict is Verdict.INVALID for one in found):
            return 0
        return sum(one.energy_uj for one in found)


def _party(address: str, port: int) -> Party:
    return Party(f"{address}:{port}", ip_address(address))
