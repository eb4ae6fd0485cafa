"""known_providers: what is written is read back, what is broken names its line, keys stay."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.dpdp.advert import MAX_INSTANCE, MAX_UNIX_S, provider_id
from powertcp.dpdp.known import (
    MAX_KNOWN,
    KeyKind,
    KnownProvider,
    format_key,
    format_known,
    parse_id,
    parse_key,
    parse_known,
    remember,
)
from powertcp.errors import ConfigError

METER, KEY, SITE, OTHER = (bytes([octet]) * 32 for octet in (1, 2, 3, 4))
BENCH = KnownProvider(
    id=provider_id(METER),
    first_s=1_795_212_000,
    last_s=1_795_298_400,
    name="Bench PSU",
    meter_key=METER,
    exchange_key=KEY,
    site_key=SITE,
    has_signed=True,
    is_pinned=True,
)
STRANGER = KnownProvider(id=bytes(16), first_s=0, last_s=MAX_UNIX_S)


def table(*known: KnownProvider) -> dict[bytes, KnownProvider]:
    return {one.id: one for one in known}


def many(count: int, *, is_pinned: bool = False) -> dict[bytes, KnownProvider]:
    return table(
        *(
            KnownProvider(
                id=number.to_bytes(16), first_s=0, last_s=9_000 - number, is_pinned=is_pinned
            )
            for number in range(count)
        )
    )


# ---- text ---------------------------------------------------------------------------------------


def test_a_line_says_all_and_the_file_is_sorted() -> None:
    text = format_known([BENCH, STRANGER])
    head, first, second, end = text.split("\n")
    assert head.startswith("# ")
    assert end == ""
    assert first == f'{"00" * 16} first=0 last={MAX_UNIX_S} name=""'
    assert second == (
        f"{BENCH.id.hex()} first=1795212000 last=1795298400"
        f" meter={format_key(METER, KeyKind.ED25519)} key={format_key(KEY, KeyKind.X25519)}"
        f' site={format_key(SITE, KeyKind.ED25519)} signed pinned name="Bench PSU"'
    )
    assert parse_known(text) == table(BENCH, STRANGER)


def test_an_empty_file_and_a_line_without_a_name() -> None:
    assert parse_known("") == parse_known("# nobody\n\n") == {}
    assert parse_known(f"{'00' * 16} first=0 last={MAX_UNIX_S}") == table(STRANGER)


@given(st.text(max_size=MAX_INSTANCE).filter(lambda name: len(name.encode()) <= MAX_INSTANCE))
def test_any_name_is_read_back_and_none_breaks_a_line(name: str) -> None:
    text = format_known([replace(BENCH, name=name)])
    assert text.count("\n") == 2
    assert all(line.isprintable() for line in text.split("\n"))
    assert parse_known(text)[BENCH.id].name == name


def test_the_longest_text_of_a_name_is_read_back() -> None:
    name = "\x01" * MAX_INSTANCE
    assert parse_known(format_known([replace(BENCH, name=name)]))[BENCH.id].name == name


IDENT = "00" * 16
BROKEN = [
    ("hello", "an id has 32 hex digits"),
    ("00" * 15 + " first=0 last=0", "an id has 32 hex digits"),
    (f"{'0 ' * 16}", "an id has 32 hex digits"),
    (IDENT, "first= is a Unix time"),
    (f"{IDENT} first=0", "last= is a Unix time"),
    (f"{IDENT} first=0 last=-1", 'last= is a Unix time in seconds, got "-1"'),
    (f"{IDENT} first=0 last={'9' * 13}", "last= is a Unix time"),
    (f"{IDENT} first=0 last=\u0661", r'got "\\u0661"'),
    (f"{IDENT} first=0 last=0 signd", 'unknown word "signd", did you mean "signed"?'),
    (f"{IDENT} first=0 last=0 signed=1", 'unknown word "signed=1"'),
    (f"{IDENT} first=0 last=0 key", 'unknown word "key"'),
    (f"{IDENT} first=0 last=0 {'x' * 90}", f'unknown word "{"x" * 60}.."'),
    (f"{IDENT} first=0 last=0 pinned pinned", "pinned stands twice"),
    (f"{IDENT} first=0 last=0 key=x25519:AAAA", "a key is x25519: and 44 letters of base64"),
    (f"{IDENT} first=0 last=0 key={format_key(KEY, KeyKind.ED25519)}", "a key is x25519:"),
    (f"{IDENT} first=0 last=0 meter={format_key(METER, KeyKind.ED25519)}", "meter key is not that"),
    (f"{IDENT} first=0 last=0 name=Bench", "up to 63 octets in double quotes, got"),
    (f"{IDENT} first=0 last=0 name=7", "up to 63 octets in double quotes"),
    (f'{IDENT} first=0 last=0 name="{"x" * 64}"', "up to 63 octets in double quotes"),
    (f'{IDENT} first=0 last=0 name="{"x" * 400}"', "up to 63 octets in double quotes"),
    (f'{IDENT} first=0 last=0 name="\\ud800"', "up to 63 octets in double quotes"),
]


@pytest.mark.parametrize(("line", "said"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_is_named(line: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_known(format_known([BENCH]) + line, "known")
    assert str(caught.value).startswith("known: line 3: ")
    assert said.replace("\\\\", "\\") in str(caught.value)


WORDS = st.sampled_from(
    [
        " ",
        "=",
        '"',
        ":",
        "\n",
        "#",
        "00" * 16,
        "first=1",
        "last=2",
        "key",
        "signed",
        "x25519",
        "name=",
    ]
)


@given(st.lists(WORDS | st.text(max_size=3), max_size=12).map("".join))
def test_any_text_is_a_file_or_a_sentence(text: str) -> None:
    said = ""
    try:
        known = parse_known(text)
    except ConfigError as error:
        said = str(error)
        known = {}
    assert said.isprintable()
    assert said.startswith("known_providers: line ") or not said
    assert parse_known(format_known(known.values())) == known


def test_a_provider_stands_once() -> None:
    with pytest.raises(ConfigError, match=f"line 4: {BENCH.id.hex()} stands twice"):
        parse_known(format_known([BENCH, BENCH, STRANGER]))


@pytest.mark.requirement("DPDP-7-04")
def test_a_file_has_a_greatest_number_of_lines() -> None:
    assert len(parse_known(format_known(many(MAX_KNOWN).values()))) == MAX_KNOWN
    with pytest.raises(ConfigError, match="line 4098: more than 4,096 providers"):
        parse_known(format_known(many(MAX_KNOWN + 1).values()))


@pytest.mark.parametrize("kind", KeyKind)
def test_one_text_stands_for_a_key(kind: KeyKind) -> None:
    text = format_key(bytes(range(32)), kind)
    assert parse_key(text, kind) == bytes(range(32))
    # the last letter has bits that mean nothing
    for wrong in (text[:-2] + "9=", text[:-1], text + "=", text.replace("=", "\u00e9"), "", ":"):
        with pytest.raises(ValueError, match="44 letters of base64"):
            parse_key(wrong, kind)


def test_an_id_is_hex() -> None:
    assert parse_id(BENCH.id.hex().upper()) == BENCH.id


# ---- memory -------------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-7-04")
def test_a_handshake_adds_what_it_shows() -> None:
    first = KnownProvider(id=BENCH.id, first_s=10, last_s=10, name="Bench")
    known = remember({}, first)
    assert known == table(first)
    known = remember(known, replace(first, first_s=20, last_s=20, name="", meter_key=METER))
    known = remember(known, replace(first, first_s=15, last_s=15, name="PSU", exchange_key=KEY))
    known = remember(known, replace(first, first_s=30, last_s=30, has_signed=True))
    known = remember(known, replace(first, first_s=40, last_s=40, site_key=SITE, is_pinned=True))
    known = remember(known, replace(first, first_s=50, last_s=50))
    assert known == table(replace(BENCH, first_s=10, last_s=50, name="Bench"))


def test_the_table_given_is_left_alone() -> None:
    known = table(BENCH)
    remember(known, STRANGER)
    assert known == table(BENCH)


@pytest.mark.requirement("DPDP-7-04")
def test_a_key_that_is_known_stays() -> None:
    loose = replace(BENCH, is_pinned=False)
    impostor = KnownProvider(id=BENCH.id, first_s=0, last_s=MAX_UNIX_S, exchange_key=OTHER)
    assert remember(table(loose), impostor) == table(loose)
    # the meter key has signed for the new one; a certificate of the old one says nothing about it
    renewed = remember(table(loose), impostor, is_vouched=True)[BENCH.id]
    assert (renewed.exchange_key, renewed.site_key, renewed.meter_key) == (OTHER, None, METER)


def test_a_pinned_key_is_changed_by_a_pin_only() -> None:
    other = KnownProvider(id=BENCH.id, first_s=0, last_s=MAX_UNIX_S, exchange_key=OTHER)
    assert remember(table(BENCH), other, is_vouched=True) == table(BENCH)
    assert remember(table(BENCH), replace(other, is_pinned=True))[BENCH.id].exchange_key == OTHER


def test_a_meter_key_of_somebody_else_is_not_kept() -> None:
    met = KnownProvider(id=bytes(16), first_s=0, last_s=0, meter_key=METER)
    assert remember({}, met) == table(replace(met, meter_key=None))
    assert remember({}, replace(met, id=BENCH.id))[BENCH.id].meter_key == METER


@pytest.mark.requirement("DPDP-7-04")
def test_the_one_met_least_recently_is_forgotten() -> None:
    known = many(MAX_KNOWN - 1)
    last = (MAX_KNOWN - 2).to_bytes(16)
    known[last] = replace(known[last], is_pinned=True)
    known = remember(known, BENCH)
    assert len(known) == MAX_KNOWN
    known = remember(known, replace(BENCH, id=bytes(15) + b"\xff", meter_key=None))
    assert len(known) == MAX_KNOWN
    newest = KnownProvider(id=b"n" * 16, first_s=0, last_s=0)
    grown = remember(known, newest)
    assert set(known) - set(grown) == {(MAX_KNOWN - 3).to_bytes(16)}
    assert newest.id in grown
    assert last in grown


def test_pins_are_never_forgotten() -> None:
    known = many(MAX_KNOWN, is_pinned=True)
    assert remember(known, BENCH) == known
