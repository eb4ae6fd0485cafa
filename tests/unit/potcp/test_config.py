"""Every limit takes its bounds and nothing one beyond."""

from typing import Any

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.potcp.config import BOUNDS, ConnectionConfig
from powertcp.units import NS_PER_MS, NS_PER_S


def made(**values: Any) -> ConnectionConfig:
    return ConnectionConfig(**values)


@pytest.mark.requirement("PTCP-14-01")
@pytest.mark.parametrize("name", BOUNDS)
def test_a_limit_at_its_bounds_and_one_beyond(name: str) -> None:
    low, high = BOUNDS[name]
    for value in (low, high):
        assert getattr(made(**{name: value}), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(LocalProtocolError, match=f"{name} is"):
            made(**{name: value})


@pytest.mark.requirement("PTCP-14-01")
def test_the_defaults_are_those_of_the_document() -> None:
    config = made()
    assert (config.msp, config.flows, config.churn_per_s) == (16_384, 256, 20)
    assert (config.maintain_interval_ms, config.maintain_misses, config.lease_s) == (1000, 3, 60)
    seconds = {
        "syn_ns": 5,
        "open_ns": 5,
        "offer_ns": 2,
        "ready_ns": 1,
        "answer_ns": 10,
        "drain_ns": 5,
        "grace_ns": 10,
        "window_ns": 2,
        "blocked_ns": 1,
        "write_extra_ns": 5,
        "ticket_ns": 60,
    }
    assert {name: getattr(config, name) for name in seconds} == {
        name: value * NS_PER_S for name, value in seconds.items()
    }
    assert (config.shed_ms, config.credit_gap_ns) == (1000, 100 * NS_PER_MS)


def test_a_negative_duration_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="syn_ns is -1"):
        made(syn_ns=-1)
