"""Manual pages and shell completions under tools/share, written from the parsers of the commands.

`python tools/docs.py` writes them, `--check` names what is stale. Exit status: 0 in order,
1 stale, 3 a tool is missing (dependency group docs).
"""

import argparse
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import powertcp
from powertcp.cli import main as cli
from powertcp.cli.mplamps import VERBS as VERBS_OF_MPLAMPS
from powertcp.cli.vppn import ACTIONS as ACTIONS_OF_VPPN
from powertcp.cli.vppn import GATEWAY

SHARE = ROOT / "tools" / "share"
TEXTS = tomllib.loads((SHARE / "pages.toml").read_text(encoding="utf-8"))
DRAFT = "draft-powertcp-protocol-00"
TITLE = "Power over TCP"
COMPLETIONS = {
    "bash": "bash-completion/completions/powertcp",
    "zsh": "zsh/site-functions/_powertcp",
    "fish": "fish/vendor_completions.d/powertcp.fish",
}
STATUS = re.compile(r"exit (?:status|codes?): *(?P<rows>\d.*?)\.?$", re.IGNORECASE | re.DOTALL)
EXAMPLES = re.compile(r"examples?:\s")
ROFF = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}


class _Asked(BaseException):
    """Carries the parser that was asked for its help."""


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser whose help `powertcp NAME --help` prints, wherever the command keeps it."""

    def print_help(parser: argparse.ArgumentParser, file: object = None) -> None:
        raise _Asked(parser)

    with patch.object(argparse.ArgumentParser, "print_help", print_help):
        try:
            cli.find(name)(["--help"])
        except _Asked as asked:
            found: argparse.ArgumentParser = asked.args[0]
            return found
    raise LookupError(f"powertcp {name} --help prints no help of a parser")


VPPN_PURPOSES = {
    "keygen": "make an identity, or the key of an employer",
    "show": "the public half of an identity",
    "sign": "a certificate for an employee",
    "revoke": "a revocation list",
    "codes": "codes for the guests of a hot spot",
    "redeem": "the certificate that a code is good for",
    "check": "files that say who may draw what",
}
# actions with options of their own: a page each
ACTIONS = {
    "vppn-gateway": "the employer's power for devices anywhere, from providers inside",
    "firewall-run": "let power pass by a policy, and keep what attacks",
    **{f"mplamps-{verb}": purpose for verb, purpose in VERBS_OF_MPLAMPS.items()},
}


def gateway_parser() -> argparse.ArgumentParser:
    """Return the parser of `powertcp vppn gateway`."""
    from powertcp.cli.vppn_gateway import build_parser

    return build_parser()


def firewall_parser() -> argparse.ArgumentParser:
    """Return the parser of `powertcp firewall run`."""
    from powertcp.cli.firewall_run import build_parser

    return build_parser()


def verb_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return a fresh parser of each verb of `powertcp mplamps`."""
    from powertcp.cli import (
        mplamps_lamp,
        mplamps_lsr,
        mplamps_pdp,
        mplamps_sim,
        mplamps_topology,
        mplamps_trace,
    )

    return {
        "topology": mplamps_topology.build_parser(),
        "sim": mplamps_sim.build_parser("sim"),
        "storm": mplamps_sim.build_parser("storm"),
        "trace": mplamps_trace.build_parser(),
        "pdp": mplamps_pdp.build_parser(),
        "lsr": mplamps_lsr.build_parser(),
        "lamp": mplamps_lamp.build_parser(),
    }


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return a fresh parser of each command."""
    return {name: parser_of(name) for name in cli.COMMANDS}


def whole(commands: dict[str, argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Join the commands to the one parser that a completion knows."""
    top = argparse.ArgumentParser(prog="powertcp", description=f"{TITLE}.")
    top.add_argument("--version", action="store_true", help="print the version")
    below = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, parser in commands.items():
        said, help_ = parser.description, cli.COMMANDS[name]
        if name == "vppn":
            mine = below.add_parser(name, description=said, help=help_)
            add_actions(mine, parser)
        elif name == "mplamps":
            verbs = below.add_parser(name, description=said, help=help_).add_subparsers(
                dest="verb", metavar="VERB"
            )
            for verb, its in verb_parsers().items():
                purpose = VERBS_OF_MPLAMPS[verb]
                verbs.add_parser(verb, parents=[completable(its)], add_help=False, help=purpose)
        else:
            below.add_parser(name, parents=[parser], add_help=False, description=said, help=help_)
    return top


def add_actions(mine: argparse.ArgumentParser, vppn: argparse.ArgumentParser) -> None:
    """Give `mine` a parser for each action of `vppn`, with the options which that one takes."""
    below = mine.add_subparsers(dest="action", metavar="ACTION")
    for name, takes in ACTIONS_OF_VPPN.items():
        parser = argparse.ArgumentParser()
        taken = {*takes.needed, *takes.optional, "what" if takes.operand else ""}
        for action in vppn._actions:  # noqa: SLF001 - as `parents` has it
            if action.dest in taken:
                parser._add_action(action)  # noqa: SLF001
        below.add_parser(name, parents=[parser], add_help=False, help=VPPN_PURPOSES[name])
    help_ = ACTIONS["vppn-gateway"]
    below.add_parser(GATEWAY, parents=[completable(gateway_parser())], add_help=False, help=help_)


# ---- manual pages -------------------------------------------------------------------------------


def roff(text: str) -> str:
    """Escape running text or an example; a line may begin with anything."""
    lines = "".join(ROFF.get(sign, sign) for sign in text).split("\n")
    return "\n".join(rf"\&{line}" if line.startswith(".") else line for line in lines)


def rows(pairs: list[tuple[str, str]], *, style: str) -> str:
    """Return a tagged list."""
    return "\n".join(f".TP\n.{style} {roff(tag)}\n{roff(text)}" for tag, text in pairs)


def epilog(parser: argparse.ArgumentParser) -> tuple[str, str, list[str]]:
    """Cut the end of a help into its examples, its exit statuses and other paragraphs.

    A help that says nothing of its status has those of `powertcp` itself. Raises LookupError
    for a help without example.
    """
    text = (parser.epilog or "").strip("\n")
    status = STATUS.search(text) or STATUS.search(cli.usage())
    if status is None:
        raise LookupError("the help of powertcp lacks an exit status")
    text = text[: status.start()] if status.string == text else text
    examples, rest = "", []
    for paragraph in filter(None, re.split(r"\n\s*\n", text.strip())):
        if EXAMPLES.match(paragraph):
            examples = EXAMPLES.sub("", paragraph, count=1).replace(" | powertcp", "\npowertcp")
        else:
            rest.append(" ".join(paragraph.split()))
    if not examples:
        raise LookupError(f"the help of {parser.prog} lacks an example")
    lines = [line.strip() for line in examples.split("\n")]
    return "\n".join(line for line in lines if line), status["rows"], rest


def statuses(said: str) -> list[tuple[str, str]]:
    """Cut `0 done, 2 usage` into its rows."""
    words = re.split(r"(?:^|,\s+)(\d+) ", " ".join(said.split()))
    return list(zip(words[1::2], words[2::2], strict=True))


def also(names: list[str]) -> str:
    """Return what to read next: other pages, then the draft."""
    pages = [f"powertcp-{name}" if name else "powertcp" for name in names]
    return "\n".join([*(rf".BR {roff(page)} (1)," for page in pages), rf".I {roff(DRAFT)}"])


def page(name: str, parser: argparse.ArgumentParser, synopsis: str) -> str:
    """Return the manual page of one command; name "" is powertcp itself."""
    from argparse_manpage.manpage import Manpage

    texts = TEXTS[name or "powertcp"]
    examples, status, rest = epilog(parser)
    parser.epilog = None
    parser.description, first = None, parser.description
    for group in parser._action_groups:  # noqa: SLF001 - the only way to the titles
        group.title = "arguments" if group.title == "positional arguments" else group.title
    manual = Manpage(parser, _data={"manual_title": TITLE})
    manual.prog = f"powertcp-{name}" if name else "powertcp"
    known = {"": "ask for power in a handshake", **cli.COMMANDS, **ACTIONS}
    manual.description = known[name]
    manual.source = f"powertcp {powertcp.__version__}"
    manual.date = drafted()
    manual.add_section("synopsis", "=", synopsis)
    said = [text for text in (first, *texts["description"], *rest) if text]
    manual.add_section("description", "=", "\n.PP\n".join(roff(text) for text in said))
    manual.add_section("exit status", "=", rows(statuses(status), style="B"))
    manual.add_section("files", "=", rows(texts["files"], style="I"))
    manual.add_section("examples", "=", f".nf\n{roff(examples)}\n.fi")
    manual.add_section("see also", "=", also(texts["also"]))
    text = str(manual)
    if not name or "\n.SH OPTIONS\n" in text:
        return text
    return with_options(text, [("-h, --help", "print what it does, with examples")])


def with_options(text: str, options: list[tuple[str, str]]) -> str:
    """Return a page with the options that its parser does not tell."""
    before, heading, after = text.partition(".SH EXIT STATUS")
    return f"{before}.SH OPTIONS\n{rows(options, style='B')}\n{heading}{after}"


def drafted() -> str:
    """Return the date of the draft, ISO 8601: pages change with what they describe."""
    text = (ROOT / "rfc" / f"{DRAFT}.xml").read_text(encoding="utf-8")
    found = re.search(r'<date day="(\d+)" month="(\w+)" year="(\d+)"/>', text)
    if found is None:
        raise LookupError(f"{DRAFT}.xml has no full date")
    months = [date(2000, month, 1).strftime("%B") for month in range(1, 13)]
    return date(int(found[3]), months.index(found[2]) + 1, int(found[1])).isoformat()


def synopsis_of(name: str, parser: argparse.ArgumentParser) -> str:
    """Return `powertcp NAME [OPTIONS] WHAT`."""
    own = [action.metavar or action.dest for action in parser._actions if not action.option_strings]  # noqa: SLF001
    words = "".join(rf" \fI{roff(str(word))}\fR" for word in own)
    return rf"\fBpowertcp {name}\fR [\fIOPTION\fR]...{words}"


def pages() -> Iterator[tuple[str, str]]:
    """Yield (file under tools/share, text) of each manual page."""
    for name, parser in parsers().items():
        yield f"man/man1/powertcp-{name}.1", page(name, parser, synopsis_of(name, parser))
    gateway = gateway_parser()
    synopsis = synopsis_of("vppn gateway", gateway)
    yield "man/man1/powertcp-vppn-gateway.1", page("vppn-gateway", gateway, synopsis)
    running = firewall_parser()
    synopsis = synopsis_of("firewall run", running)
    yield "man/man1/powertcp-firewall-run.1", page("firewall-run", running, synopsis)
    for verb, parser in verb_parsers().items():
        synopsis = synopsis_of(f"mplamps {verb}", parser)
        name = f"mplamps-{verb}"
        yield f"man/man1/powertcp-{name}.1", page(name, parser, synopsis)
    top = argparse.ArgumentParser(prog="powertcp", epilog=cli.usage().partition("\n\nexample: ")[2])
    top.epilog = f"example:\n{top.epilog}"
    group = top.add_argument_group("commands")
    for name, purpose in cli.COMMANDS.items():
        group.add_argument(name, help=purpose)
    options = [("--version", "print the version"), ("-h, --help", "print the commands")]
    text = page("", top, r"\fBpowertcp\fR \fICOMMAND\fR [\fIOPTION\fR]...")
    yield "man/man1/powertcp.1", with_options(text, options)


# ---- completions --------------------------------------------------------------------------------


def completions() -> Iterator[tuple[str, str]]:
    """Yield (file under tools/share, text) of the completion for each shell."""
    import shtab

    for shell, place in COMPLETIONS.items():
        commands = {name: completable(parser) for name, parser in parsers().items()}
        yield place, shtab.complete(whole(commands), shell=shell).rstrip("\n") + "\n"


def completable(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Return `parser`, which says where a word is a file or a folder."""
    import shtab

    kinds = {"FILE": shtab.FILE, "PATH": shtab.FILE, "DIR": shtab.DIRECTORY}
    for action in parser._actions:  # noqa: SLF001 - shtab asks for the attribute
        words = str(action.metavar).split("|")
        if kind := next((kinds[word] for word in words if word in kinds), None):
            action.complete = kind  # type: ignore[attr-defined]
    return parser


# ---- the command --------------------------------------------------------------------------------


def run(folder: Path, *, check: bool) -> int:
    """Write what differs, or with `check` name it; returns the exit status."""
    os.environ["COLUMNS"] = "100"
    made = dict([*pages(), *completions()])
    found = {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for part in ("man", "bash-completion", "zsh", "fish")
        for path in (folder / part).rglob("*")
        if path.is_file()
    }
    stale = sorted(name for name in made | found if made.get(name) != found.get(name))
    for name in stale:
        path = folder / name
        if check:
            print(f"{name}: stale, run python tools/docs.py")
        elif name in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[name], encoding="utf-8")
            print(f"{name}: written")
        else:
            path.unlink()
            print(f"{name}: removed")
    if not stale:
        print(f"docs: {len(made)} files are fresh")
    return 1 if check and stale else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tools/docs.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only name what is stale")
    parser.add_argument("--folder", type=Path, default=SHARE, help="where they stand (tools/share)")
    asked = parser.parse_args(arguments)
    try:
        return run(asked.folder, check=asked.check)
    except ImportError as error:
        print(f"docs: {error} (dependency group docs)", file=sys.stderr)
        return 3
    except LookupError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
