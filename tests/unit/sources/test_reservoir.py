"""A reservoir: what is kept, what is lost, what may go out, and that nothing appears."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import LocalProtocolError
from powertcp.sources.reservoir import (
    BURST_NS,
    MAX_CAPACITY_UJ,
    MAX_NAME,
    Drawn,
    Reservoir,
    ReservoirTerms,
    Split,
)
from powertcp.units import NS_PER_S

S = NS_PER_S
J = 1_000_000
KWH = 3_600_000 * J


def terms(capacity_uj: int = 5 * KWH, **more: object) -> ReservoirTerms:
    return replace(ReservoirTerms(name="main", capacity_uj=capacity_uj), **more)  # type: ignore[arg-type]


# -- terms -------------------------------------------------------------------------------------


def test_terms_of_the_document_have_no_faults() -> None:
    assert terms().faults() == []
    assert terms(charge_percent=99, discharge_percent=1, floor_percent=99).faults() == []
    assert terms(capacity_uj=MAX_CAPACITY_UJ, name="a" * MAX_NAME, max_in_mw=1).faults() == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": ""}, "a name has 1 to 64 letters, this one 0"),
        ({"name": "a" * 65}, "a name has 1 to 64 letters, this one 65"),
        ({"capacity_uj": 0}, "capacity 0 uJ"),
        ({"capacity_uj": MAX_CAPACITY_UJ + 1}, "capacity"),
        ({"charge_percent": 100}, "charge 100% is not 1% to 99%"),
        ({"charge_percent": 0}, "charge 0% is not 1% to 99%"),
        ({"discharge_percent": 100}, "discharge 100% is not 1% to 99%"),
        ({"discharge_percent": 0}, "discharge 0% is not 1% to 99%"),
        ({"floor_percent": 100}, "floor 100% is not 0% to 99%"),
        ({"floor_percent": -1}, "floor -1% is not 0% to 99%"),
        ({"leak_uw": -1}, "leak -1 uW is below 0"),
        ({"max_in_mw": 0}, "max-in 0 mW is not above 0"),
        ({"max_out_mw": 0}, "max-out 0 mW is not above 0"),
    ],
)
def test_each_value_that_cannot_be_has_its_sentence(wrong: dict[str, object], said: str) -> None:
    [fault] = terms(**wrong).faults()  # type: ignore[arg-type]
    assert said in fault


def test_a_laboratory_may_have_a_store_without_losses_and_none_with_gains() -> None:
    assert terms(charge_percent=100, discharge_percent=100).faults(is_lab=True) == []
    assert len(terms(charge_percent=101, discharge_percent=101).faults(is_lab=True)) == 2


# -- in ----------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-01")
def test_five_percent_of_what_is_banked_is_heat() -> None:
    store = Reservoir(terms())
    assert store.bank(60_000 * J) == Split(57_000 * J, 3_000 * J)
    assert (store.stored_uj, store.in_uj, store.heat_uj) == (57_000 * J, 60_000 * J, 3_000 * J)


def test_a_rest_below_a_microjoule_is_heat() -> None:
    store = Reservoir(terms())
    assert store.bank(1) == Split(0, 1)
    assert store.bank(39) == Split(37, 2)


@pytest.mark.requirement("FWRL-4-02")
def test_the_room_is_what_comes_in_until_it_is_full() -> None:
    store = Reservoir(terms(), 5 * KWH - 30_000 * J)
    room = store.room_uj
    assert room == 31_578_947_368
    assert store.bank(room) == Split(29_999_999_999, 1_578_947_369)
    # one microjoule is free, of which nothing would be kept
    assert store.room_uj == 0
    assert store.percent == 99


def test_what_does_not_fit_is_heat() -> None:
    store = Reservoir(terms(1000), 990)
    assert store.bank(1000) == Split(10, 990)
    assert store.stored_uj == 1000
    assert store.percent == 100
    assert store.bank(1000) == Split(0, 1000)


# -- out ---------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-01")
def test_more_is_taken_than_goes_out() -> None:
    store = Reservoir(terms(), 57_000 * J)
    assert store.draw(3_600 * J) == Drawn(3_600 * J, 189_473_685)
    assert store.stored_uj == 57_000 * J - 3_789_473_685
    assert (store.out_uj, store.heat_uj) == (3_600 * J, 189_473_685)


def test_what_nobody_has_is_heat() -> None:
    store = Reservoir(terms(1000), 1000)
    assert store.lose(95) == Drawn(0, 100)
    assert (store.stored_uj, store.out_uj, store.heat_uj) == (900, 0, 100)


@pytest.mark.requirement("FWRL-4-01")
def test_nothing_goes_out_below_the_floor() -> None:
    store = Reservoir(terms(1000, floor_percent=10), 300)
    assert (store.terms.floor_uj, store.above_floor_uj) == (100, 200)
    assert store.available_uj == store.drawable_uj == 190
    assert store.draw(191) == Drawn(190, 10)
    assert (store.stored_uj, store.available_uj) == (100, 0)
    assert store.draw(1) == Drawn(0, 0)


def test_a_floor_is_rounded_up() -> None:
    assert terms(1001, floor_percent=10).floor_uj == 101


def test_a_store_that_leaked_below_its_floor_gives_nothing() -> None:
    store = Reservoir(terms(1000, floor_percent=50), 400)
    assert store.above_floor_uj == store.available_uj == 0
    assert store.draw(10) == Drawn(0, 0)


def test_max_out_is_a_mean_that_draws_are_waited_for() -> None:
    store = Reservoir(terms(max_out_mw=1_000_000), 5 * KWH)
    burst = 1_000 * J * BURST_NS // S
    assert store.available_uj == burst
    # what was delivered is drawn, whatever max-out says
    assert store.draw(burst + 500 * J).out_uj == burst + 500 * J
    assert store.available_uj == 0
    store.leak(7 * S)
    assert store.available_uj == 0
    store.leak(8 * S)
    assert store.available_uj == 500 * J
    store.leak(100 * S)
    assert store.available_uj == burst


def test_what_is_promised_is_nobody_elses() -> None:
    store = Reservoir(terms(1000, discharge_percent=50), 1000)
    store.promise(300)
    assert (store.promised_uj, store.free_uj, store.available_uj, store.drawable_uj) == (
        300, 200, 200, 500,
    )  # fmt: skip
    for wrong in (201, -301):
        with pytest.raises(LocalProtocolError, match=f"{wrong} uJ promised, 200 uJ free, 300 kept"):
            store.promise(wrong)
    assert store.draw(300) == Drawn(300, 300)
    store.promise(-300)
    assert (store.promised_uj, store.available_uj) == (0, 200)


def test_what_is_promised_leaks_when_it_is_free_again() -> None:
    store = Reservoir(terms(1000, discharge_percent=50, floor_percent=10, leak_uw=600), 1000)
    store.leak(0)
    store.promise(300)
    assert store.leak(S) == 300
    assert store.stored_uj == 700
    assert store.leak(2 * S) == 0
    assert store.draw(300).out_uj == 300
    store.promise(-300)
    assert store.leak(3 * S) == 100
    # what could not leak from nothing is not owed
    store.bank(500)
    assert store.leak(3 * S) == 0


def test_a_change_may_break_a_promise() -> None:
    store = Reservoir(terms(1000), 1000)
    store.promise(900)
    assert store.change(terms(500)) == 500
    assert (store.free_uj, store.available_uj) == (0, 0)


# -- time --------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-01")
def test_a_leak_adds_up_to_the_microjoule_however_time_is_cut() -> None:
    whole, cut = Reservoir(terms(leak_uw=7), J), Reservoir(terms(leak_uw=7), J)
    assert whole.leak(0) == cut.leak(0) == 0
    assert whole.leak(3 * S) == 21
    assert sum(cut.leak(3 * S * part // 17) for part in range(1, 18)) == 21
    assert whole.stored_uj == cut.stored_uj == J - 21
    assert whole.heat_uj == 21


def test_a_leak_ends_at_nothing() -> None:
    store = Reservoir(terms(leak_uw=50_000), 60_000)
    store.leak(S)
    assert [store.leak(2 * S), store.leak(3 * S), store.leak(4 * S)] == [50_000, 10_000, 0]
    assert store.stored_uj == 0


def test_time_cannot_run_backwards() -> None:
    store = Reservoir(terms(leak_uw=1), 10)
    store.leak(5 * S)
    with pytest.raises(LocalProtocolError, match="backwards"):
        store.leak(4 * S)
    assert store.leak(6 * S) == 1


# -- orders ------------------------------------------------------------------------------------


def test_a_smaller_reservoir_spills_what_it_cannot_hold() -> None:
    store = Reservoir(terms(1000), 800)
    assert store.change(terms(500, max_out_mw=1)) == 300
    assert (store.stored_uj, store.heat_uj) == (500, 300)
    assert store.available_uj == 475
    assert store.change(terms(2000)) == 0
    assert store.percent == 25
    store.leak(S)
    assert store.available_uj == 475


@pytest.mark.parametrize("stored_uj", [-1, 1001])
def test_it_does_not_begin_with_what_it_cannot_hold(stored_uj: int) -> None:
    with pytest.raises(LocalProtocolError, match="main holds 0 to 1,000 uJ"):
        Reservoir(terms(1000), stored_uj)


def test_less_than_nothing_is_no_energy() -> None:
    store = Reservoir(terms(1000), 500)
    with pytest.raises(LocalProtocolError, match="-1 uJ"):
        store.bank(-1)
    with pytest.raises(LocalProtocolError, match="-1 uJ"):
        store.draw(-1)
    assert (store.stored_uj, store.in_uj, store.out_uj) == (500, 0, 0)


# -- whatever happens --------------------------------------------------------------------------

percents = st.integers(1, 99)
amounts = st.one_of(st.integers(0, 200), st.integers(0, 10**13))
some_terms = st.builds(
    ReservoirTerms,
    name=st.just("main"),
    capacity_uj=st.one_of(st.integers(1, 500), st.integers(1, 10**13)),
    charge_percent=percents,
    discharge_percent=percents,
    leak_uw=st.integers(0, 10**7),
    max_out_mw=st.none() | st.integers(1, 10**7),
    floor_percent=st.integers(0, 99),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(("bank", "fill", "draw", "empty", "lose", "leak", "promise", "redeem")),
        amounts,
    ),
    max_size=30,
)


@pytest.mark.requirement("FWRL-4-01")
@given(some_terms, st.integers(0, 100), steps)
def test_energy_is_conserved_within_the_bounds(
    some: ReservoirTerms, percent: int, doings: list[tuple[str, int]]
) -> None:
    first_uj = some.capacity_uj * percent // 100
    store = Reservoir(some, first_uj)
    came = went = heat = now = 0
    for doing, amount in doings:
        before = store.stored_uj
        match doing:
            case "bank" | "fill":
                energy = amount if doing == "bank" else store.room_uj
                kept, lost = store.bank(energy)
                assert kept + lost == energy
                came, heat = came + energy, heat + lost
                assert doing != "fill" or store.room_uj == 0
            case "draw" | "empty":
                energy = amount if doing == "draw" else store.available_uj
                out, lost = store.draw(energy)
                assert out <= energy
                assert doing == "draw" or out == energy
                assert out == 0 or store.stored_uj >= some.floor_uj
                assert store.stored_uj >= min(before, some.floor_uj)
                went, heat = went + out, heat + lost
            case "lose":
                _, lost = store.lose(amount)
                heat += lost
            case "promise":
                store.promise(min(amount, store.free_uj))
            case "redeem":
                energy = min(amount, store.promised_uj, store.drawable_uj)
                out, lost = store.draw(energy)
                assert out == energy
                went, heat = went + out, heat + lost
                store.promise(-energy)
            case _:
                now += amount
                could = min(store.drawable_uj, store.promised_uj)
                heat += store.leak(now)
                assert store.drawable_uj >= could
        assert 0 <= store.stored_uj <= some.capacity_uj
        assert first_uj + came == store.stored_uj + went + heat
        assert (store.in_uj, store.out_uj, store.heat_uj) == (came, went, heat)


@pytest.mark.requirement("FWRL-4-01", "FWRL-4-04")
@given(some_terms, st.integers(0, 100), st.lists(amounts, max_size=20))
def test_a_loop_of_its_own_power_only_loses(
    some: ReservoirTerms, percent: int, draws: list[int]
) -> None:
    store = Reservoir(some, some.capacity_uj * percent // 100)
    for amount in draws:
        before = store.stored_uj
        out, _ = store.draw(amount)
        store.bank(out)
        assert store.stored_uj < before if out else store.stored_uj == before
