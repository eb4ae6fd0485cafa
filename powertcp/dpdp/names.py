"""Names of an instance: for people, numbered when they are taken (5-01)."""

from typing import Final

from powertcp.dpdp.advert import MAX_INSTANCE
from powertcp.errors import LocalProtocolError

# the last name that has a number; after it the id makes the difference
LAST_NUMBER: Final = 9
ATTEMPTS: Final = LAST_NUMBER + 1
_DIGITS: Final = 8


# DPDP-2-02
def check_name(name: str) -> str:
    """Return `name` if it can be that of an instance. Raises LocalProtocolError."""
    octets = len(name.encode("utf-8", "surrogatepass"))
    if not name.strip() or not name.isprintable() or octets > MAX_INSTANCE:
        raise LocalProtocolError(
            f"a name is up to {MAX_INSTANCE} octets of text in one line, got {octets}: {name!r}"
        )
    return name


# DPDP-5-01
def numbered(name: str, attempt: int, provider: bytes) -> str:
    """Return the name to take at an attempt, 1..ATTEMPTS: `Bench`, `Bench (2)` .. `Bench 7f31a2c4`.

    What makes it too long is cut from the end of `name`.
    """
    if attempt <= 1:
        return name
    last = f" {provider.hex()[:_DIGITS]}"
    end = f" ({attempt})" if attempt <= LAST_NUMBER else last
    return name.encode()[: MAX_INSTANCE - len(end)].decode(errors="ignore") + end
