"""Each error says what a stranger can act on, and keeps its parts."""

import pytest

from powertcp import errors
from powertcp.registry import Reason, Refusal

REFUSAL = Refusal(Reason.NO_CAPACITY, 60_000, 14_200)


def test_every_error_but_a_broken_invariant_has_one_root() -> None:
    tree = [one for one in vars(errors).values() if isinstance(one, type)]
    raised = [one for one in tree if issubclass(one, Exception)]
    outside = [one for one in raised if not issubclass(one, errors.PowerError)]
    assert outside == [errors.BrokenInvariant]


def test_a_decode_error_names_place_field_code_and_limits() -> None:
    error = errors.DecodeError(7, "tag", 503, 9, 4)
    parts = (error.offset, error.field, error.code, error.value, error.limit)
    assert parts == (7, "tag", 503, 9, 4)
    assert str(error) == "503 at octet 7, field tag: value 9, limit 4"


@pytest.mark.parametrize("kind", [errors.RemoteProtocolError, errors.PowerRefused])
def test_a_refusal_speaks_for_its_error(
    kind: type[errors.RemoteProtocolError | errors.PowerRefused],
) -> None:
    error = kind(REFUSAL)
    assert error.refusal is REFUSAL
    assert str(error) == "100 NO_CAPACITY: asked 60,000 mW, 14,200 mW free"


def test_configuration_and_host_errors_say_where() -> None:
    config = errors.ConfigError("house.toml", "supply[0].power", "needs a unit")
    assert str(config) == "house.toml: supply[0].power: needs a unit"
    assert (config.file, config.path, config.text) == (
        "house.toml",
        "supply[0].power",
        "needs a unit",
    )
    host = errors.HostError(13, "/sys/x", "write a cap")
    assert str(host) == "cannot write a cap: /sys/x: Permission denied"
    assert (host.errno, host.path, host.wanted) == (13, "/sys/x", "write a cap")


def test_an_invariant_that_holds_is_silent_and_a_broken_one_is_a_bug() -> None:
    errors.invariant([1], "a list is not empty")
    with pytest.raises(errors.BrokenInvariant, match="sum is above the rating"):
        errors.invariant(0, "sum is above the rating")


def test_what_our_own_logic_has_set_is_returned_and_what_it_forgot_is_a_bug() -> None:
    assert errors.known(0, "nought is a value") == 0
    with pytest.raises(errors.BrokenInvariant, match="the sampling is fixed"):
        errors.known(None, "the sampling is fixed")


def test_a_word_that_nobody_knows_has_a_nearest_one() -> None:
    assert errors.nearest("gest", ["guest", "key"]) == ', did you mean "guest"?'
    assert errors.nearest("zzz", ["guest"]) == ""
