"""A live lamp and its splice, with a provider at the far end of real circuits."""

import logging
import statistics
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest
import trio

from powertcp.drivers import lsr_splice
from powertcp.drivers.consumer import Consumer
from powertcp.drivers.dial import listen
from powertcp.drivers.guide import Guide, Named, Place
from powertcp.drivers.lsr_desk import LampDesk
from powertcp.drivers.lsr_lamp import LiveLamp, Terms
from powertcp.drivers.lsr_own import OwnPower, is_own
from powertcp.drivers.lsr_splice import (
    MAX_FIRST,
    SYN_S,
    First,
    SpliceServer,
    read_first,
    refusal_octets,
)
from powertcp.drivers.wishes import Wishes
from powertcp.loads import make_load
from powertcp.mplamps.node import LampState
from powertcp.mplamps.power import TariffKind, TariffObject
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import NS_PER_MS
from powertcp.wire.frames import Control, Splitter, decode_segment, encode_segment, pack_segment
from powertcp.wire.options import Options
from tests.drivers.live import Town, provided, town, until

REQUEST = PowerProfile.parse("230V/260mA@50Hz")
Said = list[tuple[str, Mapping[str, Any]]]


def consumer(where: tuple[str, int], said: Said, *, for_ms: int = 100) -> Consumer:
    """Return a consumer of the provider at `where`."""
    return guided(Named(Place(host=where[0], port=where[1])), Ask(REQUEST), said, for_ms)


def guided(guide: Guide, ask: Ask, said: Said, for_ms: int) -> Consumer:
    wishes = Wishes(
        guide=guide,
        asks=[ask],
        for_ns=for_ms * NS_PER_MS,
    )
    return Consumer(wishes, [make_load("none")], lambda name, facts: said.append((name, facts)))


class Spliced:
    """A lamp with consumers that come one after the other."""

    def __init__(self, made: Town, terms: Terms | None = None) -> None:
        self.made = made
        self.lamp = made.lamp("lamp-1", terms)
        self.server = SpliceServer(self.lamp)
        self.where = ("", 0)

    async def listen(self, nursery: trio.Nursery) -> None:
        where: list[str] = await nursery.start(self.server.serve, listen([("127.0.0.1", 0)]))
        host, _, port = where[0].rpartition(":")
        self.where = (host, int(port))


def spans_ms(made: Town, state: str) -> list[float]:
    return [one["since_us"] / 1000 for one in made.said if one.get("state") == state]


@pytest.mark.requirement("MPLA-9-03")
@pytest.mark.requirement("MPLA-9-04")
@pytest.mark.requirement("MPLA-1-01")
async def test_a_lamp_is_lit_soon() -> None:
    """Twenty consumers after each other, each with a circuit of its own."""
    async with provided() as (provider, address), town(provider=address) as made:
        spliced = Spliced(made)
        async with trio.open_nursery() as nursery:
            await spliced.listen(nursery)
            for number in range(1, 21):
                said: Said = []
                assert await consumer(spliced.where, said).run() == 0
                await made.until_state("dark", number)
            nursery.cancel_scope.cancel()
        assert spliced.server.served == 20
        assert made.sources["es1"].failed == 0
        await until(lambda: made.sources["es1"].open == 0)
        assert not provider.breaker.holdings
        assert not list(spliced.lamp.node.tunnels())
    signalled, lit = spans_ms(made, "signalled"), spans_ms(made, "lit")
    p50 = statistics.median(signalled), statistics.median(lit)
    sys.stdout.write(
        f"\nsignalled p50 {p50[0]:.1f} ms, lit p50 {p50[1]:.1f} ms, {max(lit):.1f} max\n"
    )
    assert len(signalled) == 20
    assert len(lit) >= 20
    # "a few seconds": RFC 3251, section 7.1
    assert max(lit) < 5000


async def test_whose_provider_is_away_is_told_by_a_reset(nursery: trio.Nursery) -> None:
    with trio.socket.socket() as nobody:
        await nobody.bind(("127.0.0.1", 0))
        address = nobody.getsockname()
        async with town(provider=address) as made:
            spliced = Spliced(made)
            await spliced.listen(nursery)
            stream = await trio.open_tcp_stream(*spliced.where)
            await stream.send_all(encode_segment(syn(REQUEST)))
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            await stream.aclose()
            assert made.sources["es1"].failed == 1
            await made.until_state("dark")
            nursery.cancel_scope.cancel()


def syn(profile: PowerProfile, flow: int = 1) -> Control:
    return Control(flow, Flag.SYN, 0, Options(profiles=(profile,)))


@pytest.mark.requirement("MPLA-9-03")
async def test_switched_off_it_ends_consumers_and_takes_none() -> None:
    async with provided() as (provider, address), town(provider=address) as made:
        spliced = Spliced(made)
        async with trio.open_nursery() as nursery:
            await spliced.listen(nursery)
            said: Said = []
            nursery.start_soon(consumer(spliced.where, said, for_ms=60_000).run)
            await made.until_state("lit")
            assert len(spliced.server) == 1
            spliced.server.switch(is_on=False)
            await made.until_state("dark")
            await until(lambda: not provider.breaker.holdings)
            await until(lambda: spliced.server.is_settled)
            # who comes again is told why not
            await until(lambda: any(name == "refused" for name, _ in said))
            [refused] = [facts for name, facts in said if name == "refused"]
            assert refused["text"] == "the lamp is switched off"
            stream = await trio.open_tcp_stream(*spliced.where)
            await stream.send_all(encode_segment(syn(REQUEST)))
            reset = decode_segment(Splitter().receive(await stream.receive_some())[0])
            assert isinstance(reset, Control)
            assert reset.options.reason is not None
            assert reset.options.reason.code == Reason.OPERATOR
            assert await stream.receive_some() == b""
            await stream.aclose()
            assert spliced.lamp.node.lamp_state is LampState.DARK
            nursery.cancel_scope.cancel()


@pytest.mark.requirement("MPLA-9-03")
async def test_who_asks_for_no_power_is_refused_alone() -> None:
    """Zero volts or amperes end the connection that asked, and no other."""
    none = replace(REQUEST, voltage_mv=0), replace(REQUEST, current_ma=0)
    async with provided() as (_, address), town(provider=address) as made:
        spliced = Spliced(made)
        async with trio.open_nursery() as nursery:
            await spliced.listen(nursery)
            said: Said = []
            nursery.start_soon(consumer(spliced.where, said, for_ms=60_000).run)
            await made.until_state("lit")
            for asked, code in zip(none, (101, 106), strict=True):
                stream = await trio.open_tcp_stream(*spliced.where)
                await stream.send_all(encode_segment(syn(asked)) + encode_segment(syn(REQUEST, 3)))
                raws = Splitter().receive(await stream.receive_some())
                resets = [decode_segment(raw) for raw in raws]
                assert [one.flow for one in resets if isinstance(one, Control)] == [1, 3]
                for one in resets:
                    assert isinstance(one, Control)
                    assert one.flags == Flag.RST
                    assert one.options.reason is not None
                    assert one.options.reason.code == code
                assert await stream.receive_some() == b""
                await stream.aclose()
            assert len(spliced.server) == 1
            assert spliced.lamp.node.lamp_state is LampState.LIT
            nursery.cancel_scope.cancel()


async def test_a_bug_of_ours_ends_at_its_consumer(
    monkeypatch: pytest.MonkeyPatch, bugs: list[logging.LogRecord]
) -> None:
    async with provided() as (_, address), town(provider=address) as made:
        spliced = Spliced(made)
        async with trio.open_nursery() as nursery:
            await spliced.listen(nursery)

            async def fail(*_: object) -> bool:
                await trio.lowlevel.checkpoint()
                raise ZeroDivisionError("a bug")

            with monkeypatch.context() as broken:
                broken.setattr(spliced.lamp, "join", fail)
                stream = await trio.open_tcp_stream(*spliced.where)
                await stream.send_all(encode_segment(syn(REQUEST)))
                with suppress(trio.BrokenResourceError):
                    assert await stream.receive_some() == b""
                await stream.aclose()
            assert len(bugs) == 1
            bugs.clear()
            await made.until_state("dark")
            assert await consumer(spliced.where, []).run() == 0
            nursery.cancel_scope.cancel()


async def test_beyond_the_limit_a_consumer_is_sent_away_with_a_word(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lsr_splice, "MAX_SPLICES", 1)
    async with town("street:1", names=[]) as made:
        spliced = Spliced(made)
        await spliced.listen(nursery)
        first = await trio.open_tcp_stream(*spliced.where)
        await until(lambda: len(spliced.server) == 1)
        second = await trio.open_tcp_stream(*spliced.where)
        assert await second.receive_some() == b""
        assert "a consumer is sent away: 1 are served, no more" in caplog.text
        assert spliced.server.refused == 1
        await first.aclose()
        await second.aclose()
        nursery.cancel_scope.cancel()


async def first_of(*pieces: bytes, ends: bool = False) -> First | None:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        for piece in pieces:
            await theirs.send(piece)
        if ends:
            theirs.shutdown(trio.socket.SHUT_WR)
        return await read_first(trio.SocketStream(ours))


async def test_the_first_segment_says_what_is_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    octets = encode_segment(syn(REQUEST))
    assert await first_of(octets) == First(octets, ((1, REQUEST),))
    more = octets + encode_segment(syn(REQUEST, 2))
    assert await first_of(more) == First(more, ((1, REQUEST), (2, REQUEST)))
    sealed = pack_segment(SegmentType.SEALED, 0, 0, 0, b"", bytes(40))
    assert await first_of(sealed) == First(sealed, ())
    assert await first_of(b"GET / HTTP/1.1\r\n\r\n") == First(b"GET / HTTP/1.1\r\n\r\n", ())
    # half a segment and silence, half a segment and the end, no end of it
    started = trio.current_time()
    assert await first_of(octets[:30]) is None
    assert trio.current_time() - started == pytest.approx(SYN_S)
    assert await first_of(octets[:30], ends=True) is None
    long = pack_segment(SegmentType.DATA, 0, 1, 0, b"", bytes(2 * MAX_FIRST))[:-1]
    assert await first_of(long) is None


@pytest.mark.requirement("MPLA-9-03")
@pytest.mark.requirement("MPLA-4.8-01")
def test_a_refusal_has_the_best_and_the_reason() -> None:
    first = First(b"", ((1, REQUEST), (3, REQUEST)))
    text = "link c1--h3 (400 V) has 46,000 mW left at priority 4, asked 59,800 mW"
    refusal = Refusal(Reason.NO_CAPACITY, 59_800, 46_000, text=text)
    raws = Splitter().receive(refusal_octets(first, refusal, 230_000))
    found = [decode_segment(raw) for raw in raws]
    for control, flow in zip(found, (1, 3), strict=True):
        assert isinstance(control, Control)
        assert (control.flow, control.flags) == (flow, Flag.RST)
        [refuse] = control.options.profiles
        assert refuse.type is ProfileType.REFUSE
        assert (refuse.power_mw, refuse.tag) == (46_000, REQUEST.tag)
        assert control.options.reason is not None
        assert control.options.reason.code == Reason.NO_CAPACITY
        assert control.options.reason.text == text
    # who has shown no flow is told on the connection
    [raw] = Splitter().receive(refusal_octets(First(b"", ()), Refusal(Reason.POLICY), 0))
    control = decode_segment(raw)
    assert isinstance(control, Control)
    assert (control.flow, control.options.profiles) == (0, ())


@pytest.mark.requirement("MPLA-9-03")
@pytest.mark.requirement("MPLA-4.8-01")
async def test_a_consumer_is_told_the_numbers_of_its_refusal() -> None:
    """By whom, and what was asked for and is there, in the unit of the code."""
    far, much = (PowerProfile.parse(text) for text in ("12V/1A", "230V/17A@50Hz"))
    async with provided() as (_, address), town(provider=address) as made:
        spliced = Spliced(made)
        async with trio.open_nursery() as nursery:
            await spliced.listen(nursery)
            for asked, sentence, text in (
                (
                    far.as_sent(),
                    "101 VOLTAGE_RANGE: asked 12,000 mV, supplied is 230,000 mV",
                    "h1 does not have this voltage",
                ),
                (
                    much.as_sent(),
                    "100 NO_CAPACITY: asked 3,910,000 mW, 3,680,000 mW free",
                    "has 3,680,000 mW left at priority 4, asked 3,910,000 mW",
                ),
            ):
                said: Said = []
                guide = Named(Place(host=spliced.where[0], port=spliced.where[1]))
                assert await guided(guide, Ask(asked), said, 100).run() == 1
                [refused] = [facts for name, facts in said if name == "refused"]
                assert refused["sentence"] == sentence
                assert str(refused["text"]).endswith(text)
            nursery.cancel_scope.cancel()


@pytest.mark.requirement("MPLA-9-03")
async def test_terms_say_what_a_consumer_does_not(nursery: trio.Nursery) -> None:
    """A sealed first segment has no REQUEST: with one in the terms there is a circuit for it."""
    sealed = pack_segment(SegmentType.SEALED, 0, 0, 0, b"", bytes(40))
    async with provided() as (_, address), town(provider=address) as made:
        for terms, state in ((Terms(), ""), (Terms(request=REQUEST), "signalled")):
            async with AsyncExitStack() as stack, trio.open_nursery() as inner:
                spliced = Spliced(made, terms)
                stack.callback(spliced.lamp.close)
                await spliced.listen(inner)
                stream = await trio.open_tcp_stream(*spliced.where)
                await stream.send_all(sealed)
                if state:
                    assert (await made.until_state(state))["grant_mw"] == 59_800
                else:
                    control = decode_segment(Splitter().receive(await stream.receive_some())[0])
                    assert isinstance(control, Control)
                    assert control.options.reason is not None
                    assert control.options.reason.code == Reason.NOT_OFFERED
                await stream.aclose()
                inner.cancel_scope.cancel()


async def test_a_lamp_that_nobody_answers_gives_up(autojump_clock: trio.testing.MockClock) -> None:
    async with town(names=["s1"]) as made:
        lamp = made.lamp("lamp-1")
        number = lamp.switch_on(REQUEST)
        answer = await lamp.answer(number)
        assert isinstance(answer, Refusal)
        lamp.switch_off(number)
        assert lamp.status()["tunnels"] == []


async def test_a_price_that_nobody_can_ask_of_is_refused() -> None:
    limit = TariffObject.make(TariffKind.LIMIT, 300_000, "EUR")
    async with town("street:1") as made:
        lamp = made.lamp("lamp-1", Terms(limit=limit, minimum=None))
        # nobody asks for a price where there is no policeman
        number = lamp.switch_on(REQUEST)
        assert not isinstance(await lamp.answer(number), Refusal)


async def test_its_own_consumer_is_the_only_one_it_serves() -> None:
    async with provided() as (provider, address), town(provider=address) as made:
        lamp: LiveLamp = made.lamp("lamp-1")
        said: Said = []
        own = OwnPower(
            lamp,
            REQUEST,
            lambda guide, ask: guided(guide, ask, said, 300),
            lambda name, facts: said.append((name, facts)),
        )
        assert await own.run() == 0
        [done] = [facts for name, facts in said if name == "done"]
        assert done["energy_uj"] > 0
        assert own.is_on
        await made.until_state("dark")
        assert not provider.breaker.holdings


async def test_orders_that_make_no_sense_are_refused() -> None:
    async with town("street:1") as made:
        spliced = Spliced(made)
        desk = LampDesk(spliced.lamp, spliced.server)
        status = await desk.status({})
        assert isinstance(status, dict)
        assert (status["state"], status["tunnels"], status["on"]) == ("dark", [], True)
        for what, said in (
            ("230V/1A@50Hz", "the consumers of a splice say what they ask for"),
            ("230V/0A@50Hz", "is no power"),
            ("much", "much"),
        ):
            refusal = await desk.set({"what": what})
            assert isinstance(refusal, Refusal)
            assert said in refusal.sentence()
        refusal = await desk.migrate({"what": "loose"})
        assert isinstance(refusal, Refusal)
        assert "overlay or peer" in refusal.sentence()
        assert await desk.migrate({"what": "peer"}) == {"state": "dark", "migrated": 0}
        assert await desk.explain({}) == {"explanations": []}
        off = await desk.off({})
        assert isinstance(off, dict)
        assert not off["on"]


async def test_a_socket_of_another_process_is_not_our_own() -> None:
    with trio.socket.socket() as ours:
        await ours.bind(("127.0.0.1", 0))
        await ours.connect(ours.getsockname())
        assert is_own(ours.getsockname())
        port = ours.getsockname()[1]
    assert not is_own(("127.0.0.1", port))
