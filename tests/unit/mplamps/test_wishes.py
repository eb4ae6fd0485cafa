"""What a lamp wants: the table of its six states, and what its PATH says of sampling and priority."""

from itertools import product

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.rsvp.objects import LABEL_RECORDING, SE_DESIRED, Style, TokenBucket
from powertcp.mplamps.wishes import (
    STEPS,
    LampState,
    Model,
    Step,
    Wish,
    attribute_of,
    token_bucket,
)
from powertcp.profile import PowerProfile, ProfileType, named_profiles

# the table of named profiles is a file: read before a test begins
named_profiles()


def wish(text: str = "230V/260mA@50Hz", **fields: object) -> Wish:
    return Wish(request=PowerProfile.parse(text), **fields)  # type: ignore[arg-type]


@pytest.mark.requirement("MPLA-4.3-03")
@pytest.mark.parametrize(
    ("text", "rate", "bucket"),
    [
        ("230V/260mA@50Hz", 38_940, 1416),
        ("400V/1A@50Hz/wye", 109_340, 3976),
        ("120V/1A@60Hz", 45_980, 1672),
        ("12V/1A", 12_540, 456),
        ("230V/1A@any", 38_940, 1416),
    ],
)
def test_the_token_bucket_is_what_the_samples_take(text: str, rate: int, bucket: int) -> None:
    assert token_bucket(PowerProfile.parse(text)) == TokenBucket(rate, bucket, rate, 40, 1440)


@pytest.mark.requirement("MPLA-4.3-04")
@pytest.mark.parametrize(("priority", "half"), [(0, 4), (1, 0), (2, 1), (9, 4), (15, 7)])
def test_priorities_are_half_of_that_of_the_profile(priority: int, half: int) -> None:
    asked = wish(f"230V/1A@50Hz,prio={priority}")
    assert attribute_of(asked, "lamp-1")[:2] == (half, half)


@pytest.mark.requirement("MPLA-4.3-04")
def test_the_flags_say_the_style() -> None:
    flags = {style: attribute_of(wish(style=style), "x").flags for style in Style}
    both = LABEL_RECORDING | SE_DESIRED
    assert flags == {Style.SE: both, Style.WF: both, Style.FF: LABEL_RECORDING}


@pytest.mark.requirement("MPLA-1-01")
def test_every_pair_of_state_and_step_leads_to_one_of_six_states() -> None:
    assert len(LampState) == 6
    pairs = list(product(LampState, Step))
    assert len(pairs) == 42
    assert set(STEPS) <= set(pairs)
    # nobody is lit who was not signalled, nobody is shed who asked for nothing
    assert {state for state, step in STEPS if step is Step.BANKED} == {
        LampState.SIGNALLED,
        LampState.FLICKER,
    }
    assert (LampState.DARK, Step.CUT) not in STEPS
    reached = {LampState.DARK}
    for _ in LampState:
        reached |= {STEPS[pair] for pair in STEPS if pair[0] in reached}
    assert reached == set(LampState)


@pytest.mark.requirement("MPLA-4.6-05")
def test_wishes_that_no_path_can_say() -> None:
    wish().check()
    least = PowerProfile.parse("230V/100mA@50Hz")
    wish(minimum=least.with_type(ProfileType.MINIMUM)).check()
    for bad in (
        wish(minimum=least),
        wish(style=Style.WF, model=Model.PEER),
        Wish(request=least.with_type(ProfileType.OFFER)),
    ):
        with pytest.raises(LocalProtocolError):
            bad.check()
