"""Moves between two providers, with a signpost that does as it is told: what each side sees."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from powertcp.dpdp import roam
from powertcp.dpdp.roam import Roam
from powertcp.dpdp.select import Current
from powertcp.dpdp.trust import Shown
from powertcp.drivers.consumer import Consumer, Wishes
from powertcp.drivers.dial import parse_address
from powertcp.drivers.guide import Heed, Place, Sign
from powertcp.drivers.interfaces import Interface
from powertcp.drivers.provider import Provider
from powertcp.loads import make_load
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Refusal, SegmentType
from powertcp.units import NS_PER_S, Duration
from powertcp.wire.frames import Splitter
from tests.drivers.relay import UP, relaying
from tests.drivers.test_consumer import Said, providing


@dataclass
class Signpost:
    """A guide with a list of places: the first is asked, the others may be moved to in turn."""

    places: list[Place]
    keys: Sequence[str] = ()
    may_roam: bool = True
    told: list[tuple[str, Place]] = field(default_factory=list)
    heeds: list[Heed] = field(default_factory=list)

    async def place(self, asks: Sequence[Ask], current: Current | None = None) -> Place:
        await trio.lowlevel.checkpoint()
        if not self.places:
            await trio.sleep_forever()
        return self.places[0]

    def other(
        self,
        place: Place,
        asks: Sequence[Ask],
        keys: Sequence[str] = (),
        without: Interface | None = None,
    ) -> Place | None:
        return next((one for one in self.places if one != place), None)

    def better(self, place: Place, asks: Sequence[Ask], held_mw: int) -> Sequence[str]:
        return self.keys

    def listen(self, heed: Heed) -> None:
        self.heeds.append(heed)

    def failed(self, place: Place) -> bool:
        return self._drop("failed", place)

    def refused(self, place: Place, refusal: Refusal) -> bool:
        return self._drop("refused", place)

    def powered(self, place: Place, shown: Shown) -> None:
        self.told.append(("powered", place))

    def say(self, sign: Sign) -> None:
        """Tell of the advert of whoever gives power."""
        for heed in self.heeds:
            heed("", sign)

    def _drop(self, what: str, place: Place) -> bool:
        self.told.append((what, place))
        self.places = [one for one in self.places if one != place]
        return True


def at(address: str) -> Place:
    host, port = parse_address(address)
    return Place(host=host, port=port)


@dataclass
class Scene:
    """A consumer that has power from the first provider."""

    sink: Consumer
    said: Said
    guide: Signpost
    status: list[int] = field(default_factory=list)
    ended: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        self.status.append(await self.sink.run())
        self.ended.set()

    async def end(self) -> None:
        """End in order."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sink.stop)
            await self.ended.wait()
            nursery.cancel_scope.cancel()


def roaming(
    guide: Signpost,
    said: Said,
    *requests: str,
    roams: Roam = Roam.NEEDED,
    mux: bool = False,
    window_ns: Duration = 2 * NS_PER_S,
) -> Scene:
    least = PowerProfile.parse("12V/0.1A", ProfileType.MINIMUM)
    asks = [Ask(PowerProfile.parse(text, ProfileType.REQUEST), least) for text in requests]
    wishes = Wishes(
        guide=guide,
        asks=asks,
        roam=roams,
        mux=mux,
        give_up_ns=20 * NS_PER_S,
        connection=ConnectionConfig(window_ns=window_ns),
    )
    return Scene(Consumer(wishes, [make_load("none") for _ in asks], said), said, guide)


@asynccontextmanager
async def between(
    *requests: str, roams: Roam = Roam.NEEDED, mux: bool = False, second: str = "12V/5A"
) -> AsyncIterator[tuple[Scene, Provider, Provider]]:
    """Give power to a consumer from the first of two providers."""
    said = Said()
    async with providing("12V/5A") as (one, here), providing(second) as (two, there):
        guide = Signpost([at(here), at(there)])
        scene = roaming(guide, said, *(requests or ("12V/1A",)), roams=roams, mux=mux)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.run)
            with trio.fail_after(20):
                await said.until_powered()
                yield scene, one, two
            scene.sink.abort()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what no event tells of: how a provider stands."""
    for _ in range(10_000):
        if holds():
            return
        await trio.sleep(0.001)
    raise AssertionError("it does not come")


def supplied_uj(*providers: Provider) -> int:
    return sum(one.admissions.delivered_uj + one.admissions.returned_uj for one in providers)


@pytest.mark.requirement("DPDP-10-02")
async def test_both_together_never_give_more_than_the_load_draws() -> None:
    most_mw = 0
    async with between() as (scene, one, two):
        scene.guide.say(Sign.GOODBYE)
        await until(lambda: bool(two.breaker.holdings))
        await scene.said.until("readings", 1 + len(scene.said.all("readings")))
        # all is ready there, and nothing is drawn before the first one is told
        assert two.admissions.drawn_mw == 0
        scene.guide.say(Sign.GONE)
        while not two.admissions.drawn_mw or one.breaker.holdings:
            most_mw = max(most_mw, one.admissions.drawn_mw + two.admissions.drawn_mw)
            await trio.sleep(0.001)
        await scene.said.until("readings", 3 + len(scene.said.all("readings")))
        await scene.end()
    banked_uj = sum(each.energy_uj for each in scene.sink.appliances)
    assert 0 < most_mw <= 12_000
    assert supplied_uj(one, two) == banked_uj
    assert two.admissions.delivered_uj > 0
    assert scene.said.all("left")[0]["cause"] == "goodbye"
    assert "lost" not in scene.said.names()


@pytest.mark.requirement("DPDP-10-02")
async def test_who_delivers_for_more_than_2_s_after_it_was_left_is_cut_off() -> None:
    said, is_left = Said(), False

    def without_fin(direction: int, _: int, octets: bytes) -> bytes:
        """Let no FIN up: the provider answers, and knows nothing of having been left."""
        raws = Splitter(65535).receive(octets) if is_left and direction == UP else []
        closes = any(raw[0] == SegmentType.CTL and raw[1] & Flag.FIN for raw in raws)
        return b"" if closes else octets

    async with (
        providing("12V/5A") as (one, here),
        providing("12V/5A") as (_, there),
        relaying(here) as relay,
        trio.open_nursery() as nursery,
    ):
        relay.alter = without_fin
        guide = Signpost([at(relay.address), at(there)])
        # credit enough to go on
        scene = roaming(guide, said, "12V/1A", window_ns=20 * NS_PER_S)
        nursery.start_soon(scene.run)
        await said.until_powered()
        is_left = True
        guide.say(Sign.GONE)
        await said.until("left")
        since = trio.current_time()
        await until(lambda: all(each.wire.closed for each in one.sessions))
        # T_DRAIN would have ended it after 5 s
        assert 1.9 < trio.current_time() - since < 4
        await scene.end()
    assert scene.status == [0]


@pytest.mark.requirement("DPDP-10-03")
async def test_a_goodbye_that_is_not_true_moves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roam, "GOODBYE_NS", NS_PER_S // 2)
    async with between() as (scene, one, two):
        scene.guide.say(Sign.GOODBYE)
        await until(lambda: bool(two.breaker.holdings))
        await until(lambda: not two.breaker.holdings)
        scene.guide.say(Sign.GOODBYE)
        await scene.said.until("readings", 2 + len(scene.said.all("readings")))
        assert not two.breaker.holdings
        assert one.breaker.holdings
        await scene.end()
    assert not {"left", "stays", "lost"} & set(scene.said.names())
    assert supplied_uj(one, two) == scene.sink.appliances[0].energy_uj


@pytest.mark.requirement("DPDP-10-02")
async def test_all_flows_of_a_connection_move_together() -> None:
    async with between("12V/1A", "12V/0.5A", mux=True) as (scene, one, two):
        await scene.said.until("ready", 2)
        scene.guide.say(Sign.GONE)
        await scene.said.until("ready", 4)
        await scene.said.until("readings", 4 + len(scene.said.all("readings")))
        assert (one.breaker.held_mw, two.breaker.held_mw) == (0, 18_000)
        await scene.end()
    assert supplied_uj(one, two) == sum(each.energy_uj for each in scene.sink.appliances)


@pytest.mark.requirement("DPDP-10-02")
async def test_who_cannot_give_it_is_not_moved_to() -> None:
    async with between(second="230V/1A@50Hz") as (scene, one, _):
        scene.guide.say(Sign.GONE)
        await scene.said.until("stays")
        await scene.said.until("readings", 2 + len(scene.said.all("readings")))
        assert one.breaker.held_mw == 12_000
        await scene.end()
    assert [what for what, _ in scene.guide.told] == ["powered", "refused"]
    assert not {"left", "lost", "refused"} & set(scene.said.names())


@pytest.mark.requirement("DPDP-10-02")
async def test_who_is_not_there_is_not_moved_to() -> None:
    async with between() as (scene, one, _):
        scene.guide.places[1] = at("127.0.0.1:1")
        scene.guide.say(Sign.GONE)
        stays = (await first(scene.said, "stays"))["sentence"]
        assert str(stays).startswith("127.0.0.1:1: Connection refused; 127.0.0.1:")
        assert one.breaker.held_mw == 12_000
        await scene.end()
    assert [what for what, _ in scene.guide.told] == ["powered", "failed"]


async def first(said: Said, name: str) -> dict[str, object]:
    await said.until(name)
    return dict(said.all(name)[0])


@pytest.mark.requirement("DPDP-10-02")
async def test_what_was_prepared_is_lived_on_when_the_old_path_ends() -> None:
    async with between() as (scene, one, two):
        scene.guide.say(Sign.GOODBYE)
        await until(lambda: bool(two.breaker.holdings))
        one.stop()
        await scene.said.until("ready", 2)
        await scene.said.until("readings", 2 + len(scene.said.all("readings")))
        assert two.breaker.held_mw == 12_000
        await scene.end()
    assert len(scene.said.all("left")) == 1
    assert "lost" not in scene.said.names()


async def test_who_ends_while_a_move_is_prepared_closes_it_too() -> None:
    async with between() as (scene, one, two):
        scene.guide.say(Sign.GOODBYE)
        await until(lambda: bool(two.breaker.holdings))
        await scene.end()
        await until(lambda: not (one.breaker.holdings or two.breaker.holdings))
    assert scene.status == [0]
    assert supplied_uj(one, two) == scene.sink.appliances[0].energy_uj


@pytest.mark.requirement("DPDP-10-03")
async def test_by_choice_is_moved_only_where_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roam, "BETTER_NS", NS_PER_S // 2)
    for roams, moves in ((Roam.NEEDED, 0), (Roam.BETTER, 1)):
        async with between(roams=roams) as (scene, _, two):
            scene.guide.keys = ("another",)
            await scene.said.until("readings", 3 + len(scene.said.all("readings")))
            assert bool(two.breaker.holdings) is bool(moves)
            # 30 s must pass before the next change of choice
            assert len(scene.said.all("left")) == moves


@pytest.mark.requirement("DPDP-10-03")
async def test_who_gives_less_than_its_advert_said_is_not_moved_to_by_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roam, "BETTER_NS", NS_PER_S // 2)
    async with between(roams=Roam.BETTER, second="12V/0.5A") as (scene, one, _):
        scene.guide.keys = ("another",)
        stays = (await first(scene.said, "stays"))["sentence"]
        assert "asked 12,000 mW, 6,000 mW" in str(stays)
        assert one.breaker.held_mw == 12_000
        await scene.end()
    assert "left" not in scene.said.names()


@pytest.mark.requirement("DPDP-10-04")
async def test_while_nobody_is_found_it_is_said_once_how_long_the_load_lives() -> None:
    async with between() as (scene, one, _):
        scene.guide.places.clear()
        one.stop()
        rest = await first(scene.said, "living on")
        await trio.sleep(2.5)
        assert len(scene.said.all("living on")) == 1
        assert scene.sink.appliances[0].reason is not None
        assert scene.sink.appliances[0].reason[1]["lease_ms"] == rest["lease_ms"]
        assert "lost" not in scene.said.names()
    assert isinstance(rest["lease_ms"], int)
    assert 50_000 < rest["lease_ms"] <= 60_000
    assert rest["sentence"] == (
        f"no provider now: none lives on its lease for {rest['lease_ms'] / 1000:.0f} s"
    )
