"""Codes of a hot spot: kept as hashes, good once, and not to be tried through."""

from dataclasses import replace

import pytest

from powertcp.errors import ConfigError
from powertcp.vppn.vouchers import (
    Voucher,
    digest_of,
    format_code,
    format_vouchers,
    parse_vouchers,
    redeem,
)

CODE = format_code(bytes(range(10)))
ONE = Voucher(
    digest=digest_of(CODE), until_s=1_000, hours=8, name="guest-1", groups="guests,staff",
    limits="max-power=10W voltage=5V-12V",
)  # fmt: skip
OTHER = replace(ONE, digest=bytes(32), name="g\u00e4st-2", groups="", limits="", spent_s=7)
BOOK = {each.digest: each for each in (ONE, OTHER)}


def test_a_code_is_the_same_however_it_is_typed() -> None:
    assert CODE == "AAAQ-EAYE-AUDA-OCAJ"
    assert digest_of(" aaaqeaye auda-OCAJ") == digest_of(CODE) != digest_of("A" * 16)
    for wrong in ("", "AAAQ", CODE + "A", CODE.replace("Q", "1"), CODE.replace("Q", "\u00c4")):
        with pytest.raises(ValueError, match="four groups of four signs"):
            digest_of(wrong)


def test_the_file_is_read_back() -> None:
    assert parse_vouchers(format_vouchers(BOOK), "codes") == BOOK
    assert parse_vouchers("", "codes") == {}


@pytest.mark.parametrize(
    "text",
    [
        "\n", "cod", "code", "code 00", f"code {'0' * 64}", "wrong 1",
        format_vouchers({ONE.digest: ONE}) * 2,
        format_vouchers({ONE.digest: ONE}).replace("hours=8", "hours=-8"),
        format_vouchers({ONE.digest: ONE}).replace("hours=8", "ours=8"),
        format_vouchers({ONE.digest: ONE}).replace("until=1000", "until=" + "9" * 13),
    ],
)  # fmt: skip
def test_what_it_would_not_write_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ConfigError, match="line "):
        parse_vouchers(text, "codes")


def test_a_code_is_good_once_and_until_it_expires() -> None:
    found, said = redeem(BOOK, CODE, 999)
    assert (found, said) == (replace(ONE, spent_s=999), "")
    after = BOOK | {ONE.digest: replace(ONE, spent_s=999)}
    assert redeem(after, CODE, 999) == (None, "the code was redeemed before")
    assert redeem(BOOK, CODE, 1_000) == (None, "the code has expired")
    assert redeem(BOOK, "B" * 16, 999) == (None, "no such code")
    assert redeem(BOOK, "B" * 15, 999)[0] is None
