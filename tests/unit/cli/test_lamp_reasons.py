"""Why lamps are dark: the newest circuit of each, by messages and by what a trace tells."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from powertcp.cli import lamp_reasons
from powertcp.cli.lamp_reasons import MAX_CIRCUITS, Reasons, Verdict
from powertcp.cli.lamp_rungs import Rungs
from powertcp.cli.lamp_sightings import Names, Sighting, Told
from powertcp.mplamps.rsvp import IN_PLACE, Message, Resv
from powertcp.units import NS_PER_MS
from tests.lamp_captures import (
    ADDRESSES,
    DUSK_NS,
    link_of,
    path,
    path_tear,
    refused,
    resv,
    resv_tear,
)
from tests.rsvp_messages import MESSAGES

SAID = (
    "refused 100 NO_CAPACITY: link c1--h1 (400 V) has 9,890 mW left at priority 4, asked 59,800 mW"
)


class Watch:
    """Reasons over messages of the small network, 1 ms apart."""

    def __init__(self) -> None:
        names = Names()
        names.known = {address: name for name, address in ADDRESSES.items()}
        self._rungs, self.reasons = Rungs(names), Reasons()
        self.at_ns = DUSK_NS

    def say(self, source: str, target: str, message: Message) -> None:
        seen = Sighting(self.at_ns, source, target, link_of(source, target), message)
        self.reasons.take(self._rungs.of(seen))
        self.at_ns += NS_PER_MS

    def tell(self, node: object, tunnel: object, state: str, **more: object) -> None:
        data = {"node": node, "tunnel": tunnel, "state": state, **more}
        self.reasons.hear(Told(self.at_ns, "mplamps:lamp_changed", data))
        self.at_ns += NS_PER_MS

    def ask(self, lamp: str = "lamp-1", lsp: int = 1) -> None:
        self.say(lamp, "h1", path(lamp, lamp, "h1", lsp))
        self.say("h1", "c1", path(lamp, "h1", "c1", lsp))

    def grant(self, lamp: str = "lamp-1", lsp: int = 1) -> None:
        self.say("c1", "h1", resv(lamp, "c1", lsp))
        self.say("h1", lamp, resv(lamp, "h1", lsp))

    def refuse(self, lamp: str = "lamp-1") -> None:
        self.say("c1", "h1", refused(lamp, "c1"))
        self.say("h1", lamp, refused(lamp, "c1"))

    def of(self, lamp: str = "lamp-1") -> Verdict:
        return next(one for one in self.reasons.verdicts() if one.lamp == lamp)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.mark.requirement("MPLA-4.8-01")
def test_a_refused_lamp_is_dark_with_node_numbers_and_sentence(watch: Watch) -> None:
    watch.ask()
    watch.refuse()
    verdict = watch.of()
    assert verdict.is_dark
    assert verdict.sentence == SAID
    assert verdict.line(DUSK_NS) == f"lamp-1        dark       2.000000 ms  {SAID}"
    assert verdict.values() == {
        "lamp": "lamp-1", "is_dark": True, "since_ns": DUSK_NS + 2 * NS_PER_MS, "sentence": SAID,
        "node": "c1", "address": "10.0.0.3", "code": 1, "value": 2, "reason": 100,
        "is_in_place": False, "asked_mw": 59_800, "left_mw": 9_890,
    }  # fmt: skip


def test_a_granted_lamp_is_on_and_refreshes_change_nothing(watch: Watch) -> None:
    watch.ask()
    watch.grant()
    watch.ask()
    watch.grant()
    verdict = watch.of()
    assert (verdict.is_dark, verdict.since_ns) == (False, DUSK_NS + 3 * NS_PER_MS)
    assert verdict.line(DUSK_NS) == "lamp-1        on         3.000000 ms  granted"
    assert verdict.values()["sentence"] == "granted"


def test_without_an_answer_the_last_way_of_the_path_is_told(watch: Watch) -> None:
    watch.ask()
    watch.say("c1", "h1", resv("lamp-1", "c1"))
    said = "no answer: the PATH was last seen on its way from h1 to c1"
    assert watch.of().sentence == said
    assert "code" not in watch.of().values()


def test_another_way_after_a_refusal_is_no_refusal_yet(watch: Watch) -> None:
    watch.ask()
    watch.refuse()
    watch.ask(lsp=2)
    said = f"no answer: the PATH was last seen on its way from h1 to c1; before that {SAID}"
    assert watch.of().sentence == said
    assert watch.of().values()["code"] == 1
    watch.grant(lsp=2)
    assert not watch.of().is_dark


def test_one_circuit_is_enough(watch: Watch) -> None:
    watch.ask()
    watch.grant()
    watch.ask(lsp=2)
    watch.say(
        "c1", "h1", replace(refused("lamp-1", "c1"), sender=path("lamp-1", "h1", "c1", 2).sender)
    )
    assert not watch.of().is_dark
    watch.say("lamp-1", "h1", path_tear("lamp-1", "lamp-1"))
    assert watch.of().is_dark


def test_a_refusal_in_place_leaves_the_light_on(watch: Watch) -> None:
    watch.ask()
    watch.grant()
    error = refused("lamp-1", "c1", 24, 5)
    watch.say("h1", "lamp-1", replace(error, error=error.error._replace(flags=IN_PLACE)))
    assert not watch.of().is_dark


def test_who_ends_a_circuit_is_told(watch: Watch) -> None:
    for lamp in ("lamp-1", "lamp-2"):
        watch.ask(lamp)
        watch.grant(lamp)
    watch.say("lamp-1", "h1", path_tear("lamp-1", "lamp-1"))
    watch.say("h1", "c1", path_tear("lamp-1", "h1"))
    watch.say("c1", "h1", resv_tear("lamp-2", "c1"))
    assert not watch.of("lamp-2").is_dark
    watch.say("h1", "lamp-2", resv_tear("lamp-2", "h1"))
    assert watch.of("lamp-1").sentence == "switched off: the lamp sent PathTear"
    said = "the source took the power back: h1 sent ResvTear"
    assert watch.of("lamp-2").sentence == said


def test_a_tear_behind_the_lamp_is_not_its_own(watch: Watch) -> None:
    watch.ask()
    watch.grant()
    # an old path after a re-route is torn by a router
    watch.say("h1", "c1", path_tear("lamp-1", "h1"))
    assert not watch.of().is_dark


def test_a_capture_without_the_link_of_the_lamp_judges_by_what_it_has(watch: Watch) -> None:
    watch.say("h1", "c1", path("lamp-1", "h1", "c1"))
    watch.say("c1", "h1", resv("lamp-1", "c1"))
    assert not watch.of().is_dark
    watch.say("c1", "h1", resv_tear("lamp-1", "c1"))
    assert watch.of().is_dark


def test_a_shared_resv_is_that_of_the_lamp_it_goes_to(watch: Watch) -> None:
    shared = MESSAGES["resv-shared"]
    assert isinstance(shared, Resv)
    for lamp in ("lamp-1", "lamp-2"):
        asked = path(lamp, lamp, "h1")
        watch.say(lamp, "h1", replace(asked, session=shared.session))
    watch.say("c1", "h1", shared)
    assert watch.of("lamp-1").is_dark
    watch.say("h1", "lamp-1", shared)
    assert not watch.of("lamp-1").is_dark
    assert watch.of("lamp-2").is_dark


def test_a_lamp_that_never_asked_is_told_as_such(watch: Watch) -> None:
    watch.reasons.expect("lamp-2")
    verdict = watch.of("lamp-2")
    assert (verdict.is_dark, verdict.since_ns) == (True, None)
    said = "it never asked: there is no PATH of it"
    assert verdict.line(DUSK_NS) == f"lamp-2        dark                    {said}"


def test_what_is_no_news_of_a_lamp_is_passed_over(watch: Watch) -> None:
    watch.say("h1", "lamp-1", MESSAGES["ack"])  # type: ignore[arg-type]
    watch.tell(7, 1, "dark")
    watch.tell("lamp-1", "one", "lit")
    watch.reasons.hear(Told(0, "mplamps:act_done", {"node": "lamp-2"}))
    assert [one.lamp for one in watch.reasons.verdicts()] == ["lamp-1"]
    assert watch.of().sentence == "it never asked: there is no PATH of it"


# ---- traces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["signalled", "lit"])
def test_what_a_lamp_tells_counts_more_than_its_messages(watch: Watch, state: str) -> None:
    watch.ask()
    watch.refuse()
    watch.tell("lamp-1", 1, "dark", sentence="refused by somebody")
    assert watch.of().sentence == SAID
    watch.tell("lamp-1", 2, state)
    watch.tell("lamp-1", 2, state)
    assert not watch.of().is_dark
    watch.tell("lamp-1", 2, "shed")
    assert watch.of().is_dark


def test_without_messages_the_lamp_says_why(watch: Watch) -> None:
    watch.tell("lamp-1", 1, "dark", sentence="refused 206 POLICY: no")
    assert watch.of().sentence == "refused 206 POLICY: no"
    watch.tell("lamp-1", 1, "flicker")
    assert watch.of().sentence == "the lamp tells that it is flicker"
    watch.ask()
    watch.grant()
    # the messages would say that it is on
    assert watch.of().sentence == "the lamp tells that it is flicker"


# ---- limits -------------------------------------------------------------------------------------


def fill_circuits(watch: Watch) -> None:
    for lsp in range(1, MAX_CIRCUITS + 2):
        watch.ask(lsp=lsp)


def fill_tunnels(watch: Watch) -> None:
    for tunnel in range(1, MAX_CIRCUITS + 2):
        watch.tell("lamp-1", tunnel, "dark")


@pytest.mark.parametrize("fill", [fill_circuits, fill_tunnels])
def test_of_too_many_circuits_the_oldest_is_forgotten(
    watch: Watch, fill: Callable[[Watch], None]
) -> None:
    watch.ask()
    watch.grant()
    watch.tell("lamp-1", 1, "lit")
    assert not watch.of().is_dark
    fill(watch)
    if fill is fill_circuits:
        # the trace still tells of it
        assert not watch.of().is_dark
        watch.tell("lamp-1", 1, "dark")
    assert watch.of().is_dark


def test_of_too_many_lamps_the_last_are_not_looked_at(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamp_reasons, "MAX_LAMPS", 1)
    watch.ask("lamp-1")
    watch.ask("lamp-2")
    watch.refuse("lamp-2")
    watch.tell("lamp-2", 1, "dark")
    assert [one.lamp for one in watch.reasons.verdicts()] == ["lamp-1"]
