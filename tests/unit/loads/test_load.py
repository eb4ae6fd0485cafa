import io

import pytest

from powertcp.errors import ConfigError
from powertcp.loads import CommandLoad, make_load


@pytest.mark.parametrize("name", ["lamp", "hum", "hostcap", "none"])
def test_every_load_is_made_by_its_name(name: str) -> None:
    assert make_load(name, out=io.StringIO()).name == name


def test_a_command_is_made_with_its_reaction() -> None:
    load = make_load("run=sleep 5", on_shed="stop")
    assert isinstance(load, CommandLoad)
    assert load.argv == ["sleep", "5"]


def test_hum_asks_for_samples_and_others_do_not() -> None:
    assert make_load("hum=x.wav").wants_samples
    assert not make_load("none").wants_samples


@pytest.mark.parametrize("spec", ["", "toaster", "lamp=3", "run", "run=", "none=1"])
def test_an_unknown_load_is_refused_with_the_choices(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"lamp, hum, hum=FILE\.wav, hostcap, none"):
        make_load(spec)
