"""The parser of every command: help whose first screen has the example, errors of one line."""

import argparse
import re
import sys
from collections.abc import Iterable
from typing import NoReturn

from powertcp.errors import nearest

USAGE = 2
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_CHOICE = re.compile(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)")
_UNKNOWN = "unrecognized arguments: "


class Parser(argparse.ArgumentParser):
    """An ArgumentParser of `powertcp NAME`.

    purpose: the first sentences of the help. epilog: paragraphs; the first one holds examples and
    comes before the options. operands: what follows the options, for the usage.
    """

    def __init__(self, name: str, purpose: str, epilog: str, operands: str = "") -> None:
        """Make the parser of command `name`; abbreviated options are not taken."""
        super().__init__(
            prog=f"powertcp {name}",
            description=purpose,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._operands = f" {operands}" if operands else ""

    def format_help(self) -> str:
        """Return purpose, examples, options, the rest: the first 24 lines are enough to begin."""
        purpose, epilog = self.description, self.epilog or ""
        examples, _, rest = epilog.partition("\n\n")
        self.description = self.epilog = None
        try:
            options = super().format_help().partition("\n\n")[2]
        finally:
            self.description, self.epilog = purpose, epilog
        usage = f"usage: {self.prog} [OPTION]...{self._operands}"
        parts = (usage, purpose or "", examples, options.strip("\n"), rest)
        return "\n\n".join(part for part in parts if part) + "\n"

    def parse_action(self, argv: list[str], actions: Iterable[str]) -> argparse.Namespace:
        """Return the words of a command that begins with one of `actions`; options stand anywhere."""
        if not {"-h", "--help"} & set(argv) and all(word.startswith("-") for word in argv):
            self.error(f"an ACTION is needed: {', '.join(actions)}")
        return self.parse_intermixed_args(argv)

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong with the words, with the nearest known one; exit 2."""
        chosen = _CHOICE.fullmatch(message)
        if message.startswith(_UNKNOWN):
            word = message.removeprefix(_UNKNOWN).split()[0]
            option = word.partition("=")[0]
            kind = "option" if option.startswith("-") else "argument"
            hint = nearest(option, _OPTION.findall(self.format_usage())) if kind == "option" else ""
            message = f'unknown {kind} "{option}"{hint}'
        elif chosen:
            known = re.findall(r"'([^']*)'", chosen[3])
            choices = ", ".join(known)
            hint = nearest(chosen[2], known)
            message = f'{chosen[1]} is one of {choices}, got "{chosen[2]}"{hint}'
        print(f"{self.prog}: {message} (--help shows all options)", file=sys.stderr)
        raise SystemExit(USAGE)
