"""Places of values and keys in TOML of every form."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.mplamps.places import Path, Place, Places, TomlError, read_toml

TEXT = """# a comment, not a "string
topology = {name = "street", base = "127.80.0.0"} # [x]
node = [
  {name = "es1", kind = "es"},   # ]
  {name = 'a"b', "ki\\u006Ed" = 3, x.y = [1, [2,3], {z = 1}]},
]
[[link]]
a = "x"
b.c = 1979-05-27 07:32:00
[[link]]
a = \"\"\"x
"" ]\"\"\"
q = '''it's'''
[[link.sub]]
k = true
[t.u]
v = 1
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("topology",), (2, 12)),
        (("topology", "base"), (2, 37)),
        (("node",), (3, 8)),
        (("node", 0), (4, 3)),
        (("node", 0, "kind"), (4, 25)),
        (("node", 1, "name"), (5, 11)),
        (("node", 1, "kind"), (5, 32)),
        (("node", 1, "x", "y", 1, 1), (5, 48)),
        (("node", 1, "x", "y", 2, "z"), (5, 57)),
        (("link", 0), (7, 1)),
        (("link", 0, "b", "c"), (9, 7)),
        (("link", 1), (10, 1)),
        (("link", 1, "q"), (13, 5)),
        (("link", 1, "sub", 0, "k"), (15, 5)),
        (("t", "u", "v"), (17, 5)),
        (("node", 1, "missing"), (5, 3)),
        (("link", 7, "a"), (7, 1)),
        (("nothing",), (1, 1)),
        ((), (1, 1)),
    ],
)
def test_a_value_stands_where_it_begins(path: Path, place: tuple[int, int]) -> None:
    tomllib.loads(TEXT)
    assert Places(TEXT).value(path) == place
    assert Places(TEXT.replace("\n", "\r\n")).value(path) == place


def test_a_key_stands_before_its_value() -> None:
    places = Places(TEXT)
    assert places.key(("topology", "base")) == (2, 30)
    assert places.key(("node", 1, "kind")) == (5, 18)
    assert places.key(("t", "u")) == (16, 1)
    assert places.key(("node", 1, "none")) == (5, 3)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("a = ", (1, 5), "Invalid value"),
        ("\n\na = [1,\n", (4, 1), "Invalid value"),
        ("x", (1, 2), "Expected"),
        ('b = 1\na = "', (2, 6), "Unterminated"),
        ("a = 1\na = 2\n", (2, 6), "Cannot overwrite"),
        ("a = " + "[" * 3000, (1, 1), "nested too deeply"),
        ("a = " + "9" * 5000, (1, 1), "Exceeds the limit"),
    ],
)
def test_a_text_that_is_no_toml(text: str, place: tuple[int, int], said: str) -> None:
    with pytest.raises(TomlError, match=said) as caught:
        read_toml(text)
    assert caught.value.place == Place(*place)


@pytest.mark.parametrize("text", ["a = [1, ", "a = {b = 1, ", "a. = 1", "[a.\n", "a", "a = "])
def test_a_text_that_ends_too_early_is_looked_through_all_the_same(text: str) -> None:
    assert Places(text).value(("a",)).line == 1


KEYS = st.from_regex(r"[A-Za-z_-]{1,3}", fullmatch=True)
SCALARS = st.sampled_from(
    ["1", '"a]b,#"', "'it'", "true", '"""\n}"""', "1979-05-27 07:32:00", "'''x'\n'''", '""']
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda found: "[" + " ,\n # ]\n".join(found) + "\n]"),
        st.dictionaries(KEYS, inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{k} = {v}" for k, v in table.items()) + "}"
        ),
    ),
    max_leaves=8,
)


def paths(value: object, path: Path = ()) -> list[tuple[Path, object]]:
    found: list[tuple[Path, object]] = [(path, value)]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, (*path, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            found += paths(inner, (*path, index))
    return found


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.integers(0, 2))
def test_at_each_place_stands_the_value(table: dict[str, str], blanks: int) -> None:
    text = "".join(f"{' ' * blanks}{key} = {value} # [\n" for key, value in table.items())
    lines = text.split("\n")
    places = Places(text)
    for path, value in paths(tomllib.loads(text))[1:]:
        line, column = places.value(path)
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        # the same value begins there, whatever follows it
        ends = [end for end in range(1, len(rest) + 1) if read(rest[:end]) == (value,)]
        assert ends, (path, rest)


def read(text: str) -> tuple[object, ...]:
    try:
        return (tomllib.loads(f"x = {text}")["x"],)
    except tomllib.TOMLDecodeError:
        return ()


@given(st.text(alphabet="ab=\"'[]{}#.,\n\\ 1", max_size=40))
def test_any_text_is_looked_through_or_refused(text: str) -> None:
    try:
        table = read_toml(text)
    except TomlError as error:
        line, column = error.place
    else:
        line, column = min(Places(text).value(path) for path, _ in paths(table))
    assert line >= 1
    assert column >= 1
