"""The nearest known word to one that nobody knows."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean "..."?` for a word close to a known one, else an empty text."""
    close = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f', did you mean "{close[0]}"?' if close else ""
