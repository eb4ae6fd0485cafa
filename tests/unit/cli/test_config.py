"""Configuration: precedence, quantities with units, errors that name path and nearest key."""

from pathlib import Path

import pytest

from powertcp.cli.config import DaemonOptions, ProviderOptions, check_lines, decode, find_file, load
from powertcp.errors import ConfigError


def test_quantities_are_texts_with_units() -> None:
    options = decode(ProviderOptions, {"rating": "3.6kW", "grace": "2s"}, "f")
    assert (options.rating, options.grace) == (3_600_000, 2_000_000_000)


@pytest.mark.parametrize(
    ("table", "path", "text"),
    [
        ({"suply": ["12V/5A"]}, "$", 'did you mean "supply"'),
        ({"rating": 3600}, "$.rating", "unit"),
        ({"rating": "3600V"}, "$.rating", "V"),
        ({"listen": "x"}, "$.listen", "array"),
        ({"zzzzzz": 1}, "$", 'unknown key "zzzzzz"'),
    ],
)
def test_an_error_names_file_path_and_nearest_key(
    table: dict[str, object], path: str, text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(ProviderOptions, table, "provider.toml")
    assert caught.value.file == "provider.toml"
    assert caught.value.path == path
    assert text in caught.value.text


def test_flags_before_file_before_defaults(tmp_path: Path) -> None:
    file = tmp_path / "provider.toml"
    file.write_text('supply = ["12V/5A"]\nrating = "60W"\n', encoding="utf-8")
    flags = {"rating": "50W", "name": None}
    effective = load(ProviderOptions, "provider", flags, config=str(file), environ={})
    assert effective.options.rating == 50_000
    assert effective.options.supply == ("12V/5A",)
    assert [effective.origins[k] for k in ("rating", "supply", "name")] == [
        "flag",
        "file",
        "default",
    ]
    said = check_lines("provider", effective)
    assert said["options"]["rating_mw"] == {"value": 50_000, "origin": "flag"}  # type: ignore[index]


def test_the_first_file_that_exists_is_read(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert find_file("nosuchcommand", None, environ) is None
    (tmp_path / "powertcp").mkdir()
    file = tmp_path / "powertcp" / "provider.toml"
    file.write_text("", encoding="utf-8")
    assert find_file("provider", None, environ) == file
    assert find_file("provider", None, {"POWERTCP_CONFIG": "/x"}) == Path("/x")
    assert find_file("provider", "/y", {"POWERTCP_CONFIG": "/x"}) == Path("/y")


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "provider.toml"
    file.write_text("rating = ", encoding="utf-8")
    with pytest.raises(ConfigError):
        load(ProviderOptions, "provider", {}, config=str(file), environ={})
    with pytest.raises(ConfigError):
        load(ProviderOptions, "provider", {}, config=str(tmp_path / "none"), environ={})


def test_a_daemon_has_its_own_keys_and_those_of_every_daemon() -> None:
    options = decode(ProviderOptions, {"authorized": "w", "log_format": "json"}, "f")
    assert isinstance(options, DaemonOptions)
    assert (options.listen, options.log_format) == (("[::]:3251",), "json")
    with pytest.raises(ConfigError, match="log_format: Invalid enum value 'xml'"):
        decode(ProviderOptions, {"log_format": "xml"}, "f")
