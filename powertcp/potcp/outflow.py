"""The delivering half of a source's flow: blocks under credit, CREDIT, acknowledgement."""

from collections.abc import Sequence

from powertcp.dve import BlockSums, integrate_many
from powertcp.errors import LocalProtocolError
from powertcp.machine import Buffer
from powertcp.potcp.events import CreditReceived
from powertcp.potcp.flow import Flow, Link
from powertcp.potcp.states import Cause, Source
from powertcp.registry import Reason, Refusal
from powertcp.units import Instant
from powertcp.wire.frames import RawSegment, data_header, encode_segment, read_credit
from powertcp.wire.segments import DEMAND_MAX, Blocked, Credit

POWERED = frozenset({Source.ENERGISED, Source.SHED_SENT, Source.RENEG_SENT})
_ENERGISED = Source.ENERGISED


class Outflow(Flow):
    """A flow out of which power goes; `SourceFlow` adds how it is agreed upon and ends.

    counter: of the next sample. start_uj: ESN of the first block. until_uj: ESN at which the granted
    energy is delivered, 0: open-ended. blocked_at: when BLOCKED is said again, None while credit
    lasts. is_watched: `after_block` looks at each block. is_withheld: no block is taken.
    """

    __slots__ = (
        "blocked_at",
        "counter",
        "is_watched",
        "is_withheld",
        "start_uj",
        "until_uj",
        "wanted_mw",
    )

    def __init__(self, link: Link, flow: int) -> None:
        super().__init__(link, flow)
        self.counter = 0
        self.blocked_at: Instant | None = None
        self.start_uj = 0
        self.until_uj = 0
        self.is_watched = self.is_withheld = False
        # what the sink said last, whatever the contract was then
        self.wanted_mw = DEMAND_MAX

    @property
    def esn_uj(self) -> int:
        """Energy delivered so far, uJ; before READY what a resumed flow starts from."""
        return self.register.esn_uj if self.register else self.start_uj

    @property
    def delivers(self) -> bool:
        """Whether blocks may be sent."""
        return self.state in POWERED

    def send_blocks(
        self, now: Instant, blocks: Sequence[bytes], sums: Sequence[BlockSums] | None, *, ece: bool
    ) -> int:
        """Queue blocks while credit lasts; returns how many were taken. PTCP-6-01.

        Raises LocalProtocolError for a block that does not follow the one before. A block that
        protection refuses trips the flow and is not sent.
        """
        protector = self.protector
        if not self.delivers or protector is None:
            raise LocalProtocolError(f"flow {self.id}: no power flows in state {self.state.name}")
        if sums is None:
            sums = integrate_many(blocks, protector.window_samples)
        taken = 0
        for block, measured in zip(blocks, sums, strict=True):
            # the block before may have been the last of the energy that was granted
            if not self.delivers or not self.send_block(now, block, measured, ece=ece):
                break
            taken += 1
        return taken

    def send_block(self, now: Instant, block: bytes, sums: BlockSums, *, ece: bool) -> bool:
        """Queue one block whose sums are known, as `send_blocks` does; False: not taken."""
        register, protector = self.register, self.protector
        if (
            (self.state is not _ENERGISED and self.state not in POWERED)
            or register is None
            or protector is None
        ):
            raise LocalProtocolError(f"flow {self.id}: no power flows in state {self.state.name}")
        if sums.counter != self.counter:
            raise LocalProtocolError(
                f"flow {self.id}: sample {sums.counter} where {self.counter} is next"
            )
        # LEDG-6-03
        if self.is_withheld:
            return False
        # PTCP-6-01
        if register.peek(sums.a) > self.limit_uj:
            if self.blocked_at is None:
                self.queue_blocked(now)
            return False
        if sums.window_samples != protector.window_samples:
            # made under the terms before
            [sums] = integrate_many([block], protector.window_samples)
        refusal = protector.check(sums)
        if refusal is not None:
            self.fire(Cause.VIOLATION, now, refusal)
            return False
        self.link.send(data_header(self.id, register.esn_uj, len(block), ece) + block)
        esn = register.add(sums.a)
        self.counter = (sums.counter + sums.n) & 0xFFFF_FFFF
        if protector.alert is not None:
            self.alert(2, protector.alert)
            protector.take_alert()
        if self.is_watched:
            self.after_block(now, block, sums, esn)
        return True

    def after_block(self, now: Instant, block: Buffer, sums: BlockSums, esn_uj: int) -> None:
        """Look at a block that was sent: the granted energy may be over."""
        # PTCP-6-06
        if self.until_uj and esn_uj >= self.until_uj and self.delivers:
            self.fire(Cause.CLOSE, now, Refusal(Reason.NORMAL, rule="the energy is delivered"))

    # PTCP-6-05
    def queue_blocked(self, now: Instant) -> None:
        """Out of credit: say so once, then each second while it lasts."""
        self.blocked_at, self.link.moved = now + self.link.config.blocked_ns, True
        self.link.send(encode_segment(Blocked(self.id, self.esn_uj, self.limit_uj)))

    # PTCP-2.1-02
    def acknowledge(self, esn_uj: int) -> Refusal | None:
        """Take the energy the sink has verified, stated by each of its segments.

        Returns why it cannot be: less than before, or more than was sent.
        """
        register = self.register
        if register is None:
            return None
        if not self.acked_uj <= esn_uj <= register.esn_uj:
            return Refusal(Reason.METER_MISMATCH, esn_uj, register.esn_uj)
        self.acked_uj = esn_uj
        return None

    def take_credit(self, now: Instant, credit: Credit) -> None:
        """CREDIT: limit, demand and acknowledgement. PTCP-6-01, PTCP-6-03."""
        self._credit(credit.limit_uj, credit.demand_mw, cwr=credit.cwr)

    def take_plain_credit(self, raw: RawSegment) -> bool:
        """Take a CREDIT without options while power flows: what the table would do, at once.

        False: nothing was done, the segment goes the long way.
        """
        register, acked_uj = self.register, raw[3]
        # PTCP-9-08: in any other state the table decides
        if register is None or (self.state is not _ENERGISED and self.state not in POWERED):
            return False
        said = read_credit(raw)
        # PTCP-2.1-02
        if said is None or not self.acked_uj <= acked_uj <= register.esn_uj:
            return False
        self.acked_uj = acked_uj
        limit_uj, demand_mw, cwr = said
        self.wanted_mw = demand_mw
        wanted_mw = demand_mw if demand_mw < self.most_mw else self.most_mw
        if cwr or wanted_mw != self.demand_mw or self.blocked_at is not None:
            self._credit(limit_uj, demand_mw, cwr=cwr)
        elif limit_uj > self.limit_uj:
            self.limit_uj = limit_uj
        return True

    def _credit(self, limit_uj: int, demand_mw: int, *, cwr: bool) -> None:
        """Take what a CREDIT says, and report what its owner can act on."""
        # PTCP-6-03, DEMAND_MAX is above every contract
        self.wanted_mw = demand_mw
        demand_mw = min(demand_mw, self.most_mw)
        is_news = cwr or demand_mw != self.demand_mw
        self.demand_mw = demand_mw
        if limit_uj > self.limit_uj:
            self.limit_uj = limit_uj
            if self.blocked_at is not None:
                self.blocked_at, self.link.moved = None, True
                is_news = True
        if is_news:
            self.link.emit(
                CreditReceived(
                    flow=self.id,
                    limit_uj=self.limit_uj,
                    acked_uj=self.acked_uj,
                    demand_mw=demand_mw,
                    cwr=cwr,
                )
            )
