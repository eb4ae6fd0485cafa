"""`powertcp ledger audit`: the first law over one or many ledgers, as a table, records or a diagram."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from powertcp.cli.books import FOREVER, NAME, PAGES, Asked, Rows, label, open_ledger, read_file
from powertcp.errors import HostError
from powertcp.ledger.audit import (
    CLAIMED,
    FIRST_LAW,
    WALL,
    FeedLaw,
    FirstLaw,
    NodeBook,
    NodeLaw,
    audit,
    chi,
    plain,
)
from powertcp.ledger.pairing import EVIDENCE, Fault, Finding, Held, PageState, Receiver, Span
from powertcp.ledger.receipt import PAGE_OCTETS, Side
from powertcp.ledger.sankey import sankey
from powertcp.ledger.statement import joules, period
from powertcp.store import LedgerStore
from powertcp.units import format_energy

DONE = 0
NO = 1
PPM = 1_000_000
RETRIES = 2

TERMS = (
    ("generated", "generated_uj"),
    ("in", "taken_uj"),
    ("delivered", "delivered_uj"),
    ("used", "used_uj"),
    ("stored", "stored_uj"),
    ("heat", "heat_uj"),
)
COLUMNS = (
    "record", "name", "generated_uj", "in_uj", "miracle_uj", "delivered_uj", "used_uj", "stored_uj",
    "heat_uj", "residual_uj", "unsigned_uj", "emitted_uj", "received_uj", "lost_uj", "chi_ppm",
    "receivers", "energy_uj", "pages", "gaps", "fault", "text",
)  # fmt: skip
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})

Record = dict[str, object]


def run(asked: Asked, *, diagram: str | None, is_metrics: bool, is_posted: bool) -> int:
    """Audit ledgers and print the result; returns the exit status.

    diagram: file for the Sankey diagram. is_metrics: as Prometheus metrics instead of a table.
    is_posted: the miracle of each feed is posted in the ledger of its source.
    """
    ledgers = [path for path in asked.ledgers if path.suffix != PAGES]
    if _broken(ledgers):
        return NO
    files = [path for path in asked.ledgers if path.suffix == PAGES]
    evidence = [*files, *_sent(ledgers)]
    law = _audit(ledgers, asked.span, evidence)
    for _ in range(RETRIES):
        if not any(finding.fault is Fault.MISSING for finding in law.findings):
            break
        # a page may have come between the moments of two books; what is missing stays so
        law = _audit(ledgers, asked.span, evidence)
    if is_posted:
        _post(law, ledgers)
    if diagram is not None:
        _write(Path(diagram), sankey(law))
    if is_metrics:
        print("\n".join(metrics(law)))
    elif asked.form == "text":
        print("\n".join(table(law)))
    else:
        rows = Rows(asked.form, COLUMNS)
        for record in records(law):
            rows.put(record, "")
    return NO if law.broken else DONE


def _broken(ledgers: Sequence[Path]) -> bool:
    """Look at every record first: what was altered is not audited."""
    is_broken = False
    for path in ledgers:
        with open_ledger(path) as store:
            for finding in store.verify():
                if not finding.is_warning:
                    is_broken = True
                    print(f"powertcp ledger: {path}: {finding}", file=sys.stderr)
    return is_broken


def _sent(ledgers: Sequence[Path]) -> Iterator[Path]:
    """Yield the files in which sources keep what the receivers of their feeds sent them."""
    for path in ledgers:
        if path.name == NAME:
            yield from sorted(path.parent.glob(f"feed-*{PAGES}"))


def _evidence(files: Sequence[Path]) -> tuple[list[Held], list[Finding]]:
    """Return the pages in files, in order, and which files a crash cut within their last one."""
    pages: list[bytes] = []
    cut: list[Finding] = []
    for path in files:
        octets = read_file(path)
        whole = len(octets) - len(octets) % PAGE_OCTETS
        pages += [octets[at : at + PAGE_OCTETS] for at in range(0, whole, PAGE_OCTETS)]
        if rest := len(octets) - whole:
            said = f"{plain(str(path))}: {rest} of {PAGE_OCTETS} octets of its last page"
            cut.append(Finding(Fault.CUT, said))
    pages.sort(key=lambda octets: (octets[4:36], octets[40:44], octets))
    return [
        Held(it[4:36], int.from_bytes(it[40:44], "big"), Side.SOURCE, PageState.COUNTERSIGNED, it)
        for it in pages
    ], cut


def _audit(ledgers: Sequence[Path], span: Span, files: Sequence[Path]) -> FirstLaw:
    names = _names(ledgers)
    # before the books: a receiver holds what it sent
    evidence, cut = _evidence(files)
    with ExitStack() as stack:
        stores = [stack.enter_context(open_ledger(path)) for path in ledgers]
        # one moment for all, as near as processes allow: pages travel between books
        for store in stores:
            stack.enter_context(store.at_one_moment())
        books = [_book(name, store) for name, store in zip(names, stores, strict=True)]
        law = audit(books, span, evidence)
    return replace(law, findings=(*law.findings, *cut))


def _names(ledgers: Sequence[Path]) -> list[str]:
    """Return a name for each ledger: short ones if they differ."""
    short = [plain(label(path)) for path in ledgers]
    is_own = len({EVIDENCE, *short}) == len(short) + 1
    return short if is_own else [plain(str(path)) for path in ledgers]


def _book(name: str, store: LedgerStore) -> NodeBook:
    head = store.last_head()
    return NodeBook(
        name=name,
        accounts={account.id: account for account in store.accounts()},
        entries=store.entries(),
        pages=(
            Held(row.transcript, row.page, row.side, row.state, row.body) for row in store.pages()
        ),
        meters=(head.key,) if head else (),
    )


# LEDG-8-02
def _post(law: FirstLaw, ledgers: Sequence[Path]) -> None:
    """Post what nobody generated, unless that was done; the daemons of those ledgers are ended."""
    paths = dict(zip(_names(ledgers), ledgers, strict=True))
    # what an entry holds: 1970 to 2262
    at_ns = min(max(0, time.time_ns()), FOREVER - 1)
    for feed in law.feeds:
        closing = feed.closing()
        if closing is not None:
            with LedgerStore(paths[feed.source]) as store:
                (answer,) = store.append([(closing,)], at_ns)
            if isinstance(answer, Exception):
                raise answer


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HostError(error.errno or 5, str(path), "write the diagram") from error


# ---- for people ---------------------------------------------------------------------------------


def table(law: FirstLaw) -> Iterator[str]:
    """Yield the lines of an audit, at most 100 columns."""
    if not law.span.is_open:
        yield period(law.span)
    yield f"{'node':<16}" + "".join(f" {name:>11}" for name, _ in TERMS) + f" {'residual':>8}"
    for node in law.nodes:
        yield _node_line(node)
    if len(law.nodes) > 1:
        cells = "".join(f" {format_energy(law.total(term)):>11}" for _, term in TERMS)
        yield f"{'all':<16}{cells} {format_energy(law.residual_uj):>8}"
    yield ""
    yield from _overall(law)
    for feed in law.feeds:
        yield from _feed_lines(feed)
    for finding in law.findings:
        yield f"{finding.fault}: {finding.sentence}"
    yield law.sentence()


def _node_line(node: NodeLaw) -> str:
    cells = "".join(f" {format_energy(getattr(node, term)):>11}" for _, term in TERMS)
    return f"{node.name:<16}{cells} {format_energy(node.residual_uj):>8}"


def _overall(law: FirstLaw) -> Iterator[str]:
    pairs = law.pairing
    said = " (simulated)" if pairs.simulated else ""
    yield f"pages        {pairs.paired:,} in both books, {joules(pairs.paired_uj)}{said}"
    if pairs.outside:
        yield f"             {pairs.outside:,} with nodes not audited, {joules(pairs.outside_uj)}"
    if pairs.open_pages:
        yield f"             {pairs.open_pages:,} in one book only, {joules(pairs.open_uj)}"
    if unsigned := law.total("unsigned_uj"):
        yield f"without page {joules(unsigned)}"
    yield f"from outside {joules(law.outside_in_uj)}, to outside {joules(law.outside_out_uj)}"
    wall = law.moved(WALL)
    ratio = f", ratio {_ratio(law.given_uj, wall)}" if wall else ""
    yield f"verified     {joules(law.given_uj)}; wall {joules(wall)}{ratio}"
    yield f"claimed      {joules(law.moved(CLAIMED))}, in no sum"


def _ratio(virtual: int, wall: int) -> str:
    whole, rest = divmod(virtual * PPM // wall, PPM)
    return f"{whole:,}.{rest:06}"


def _feed_lines(feed: FeedLaw) -> Iterator[str]:
    emitted = "?" if feed.emitted_uj is None else format_energy(feed.emitted_uj)
    count = len(feed.receivers)
    yield (
        f"feed {plain(feed.feed)} emitted {emitted}, {count:,}"
        f" {'receiver' if count == 1 else 'receivers'} {format_energy(feed.received_uj)},"
        f" chi {chi(feed)}"
    )
    for meter, receiver in feed.receivers.items():
        yield (
            f"  receiver {meter[:16]} {joules(receiver.energy_uj):>20} {receiver.pages:>6,} pages"
            f" {receiver.gaps:>4,} gaps"
        )
    if feed.miracle_uj:
        yield f"  {FIRST_LAW}{plain(feed.feed)} {joules(feed.miracle_uj)}"
    if feed.lost_uj:
        yield f"  not received {joules(feed.lost_uj)}"


# ---- for programs -------------------------------------------------------------------------------


def records(law: FirstLaw) -> Iterator[Record]:
    """Yield the records of an audit: nodes, feeds, receivers, findings, and last the whole."""
    for node in law.nodes:
        yield _node_record(node)
    for feed in law.feeds:
        yield _feed_record(feed)
        for meter, receiver in feed.receivers.items():
            yield _receiver_record(feed, meter, receiver)
    for finding in law.findings:
        yield {"record": "finding", "fault": str(finding.fault), "text": finding.sentence}
    pairs = law.pairing
    yield {
        "record": "law",
        "since_ns": law.span.since_ns,
        "until_ns": law.span.until_ns,
        "generated_uj": law.total("generated_uj"),
        "in_uj": law.outside_in_uj,
        "miracle_uj": law.miracle_uj,
        "delivered_uj": law.outside_out_uj,
        "used_uj": law.total("used_uj"),
        "stored_uj": law.total("stored_uj"),
        "heat_uj": law.total("heat_uj"),
        "lost_uj": law.lost_uj,
        "residual_uj": law.residual_uj,
        "unsigned_uj": law.total("unsigned_uj"),
        "flows": pairs.flows,
        "pages": pairs.paired,
        "energy_uj": pairs.paired_uj,
        "open_pages": pairs.open_pages,
        "open_uj": pairs.open_uj,
        "outside_pages": pairs.outside,
        "outside_uj": pairs.outside_uj,
        "simulated_pages": pairs.simulated,
        "verified_uj": law.given_uj,
        "wall_uj": law.moved(WALL),
        "claimed_uj": law.moved(CLAIMED),
        "faults": law.broken,
        "text": law.sentence(),
    }


def _node_record(node: NodeLaw) -> Record:
    return {
        "record": "node",
        "name": node.name,
        "meters": list(node.meters),
        "generated_uj": node.generated_uj,
        "in_uj": node.taken_uj,
        "miracle_uj": node.miracle_uj,
        "delivered_uj": node.delivered_uj,
        "used_uj": node.used_uj,
        "stored_uj": node.stored_uj,
        "heat_uj": node.heat_uj,
        "residual_uj": node.residual_uj,
        "unsigned_uj": node.unsigned_uj,
        "entries": node.entries,
    }


def _feed_record(feed: FeedLaw) -> Record:
    return {
        "record": "feed",
        "name": feed.feed,
        "emitted_uj": feed.emitted_uj,
        "received_uj": feed.received_uj,
        "miracle_uj": feed.miracle_uj,
        "posted_uj": feed.posted_uj,
        "lost_uj": feed.lost_uj,
        "chi_ppm": feed.chi_ppm,
        "receivers": len(feed.receivers),
    }


def _receiver_record(feed: FeedLaw, meter: str, receiver: Receiver) -> Record:
    return {
        "record": "receiver",
        "name": meter,
        "feed": feed.feed,
        "energy_uj": receiver.energy_uj,
        "pages": receiver.pages,
        "gaps": receiver.gaps,
        "samples": receiver.samples,
    }


def metrics(law: FirstLaw) -> Iterator[str]:
    """Yield the audit as Prometheus metrics: joules are exact decimals of integers."""
    yield "# HELP powertcp_audit_energy_joules Verified energy of a node by term of its balance."
    yield "# TYPE powertcp_audit_energy_joules gauge"
    for node in law.nodes:
        for name, term in (*TERMS, ("miracle", "miracle_uj")):
            labels = f'node="{node.name.translate(_ESCAPES)}",term="{name}"'
            yield f"powertcp_audit_energy_joules{{{labels}}} {_decimal(getattr(node, term))}"
    yield "# HELP powertcp_audit_residual_microjoules What a balance lacks: must be 0."
    yield "# TYPE powertcp_audit_residual_microjoules gauge"
    for node in law.nodes:
        labels = f'node="{node.name.translate(_ESCAPES)}"'
        yield f"powertcp_audit_residual_microjoules{{{labels}}} {node.residual_uj}"
    for name, said, amount in (
        ("wall", "Wall energy of all nodes.", law.moved(WALL)),
        ("claimed", "Energy that headers claim beyond verified samples.", law.moved(CLAIMED)),
    ):
        yield f"# HELP powertcp_audit_{name}_joules {said}"
        yield f"# TYPE powertcp_audit_{name}_joules gauge"
        yield f"powertcp_audit_{name}_joules {_decimal(amount)}"
    yield "# HELP powertcp_audit_faults What cannot be in books that are in order."
    yield "# TYPE powertcp_audit_faults gauge"
    yield f"powertcp_audit_faults {law.broken}"
    yield from _feed_metrics(law)


def _feed_metrics(law: FirstLaw) -> Iterator[str]:
    if not law.feeds:
        return
    yield "# HELP powertcp_audit_feed_joules Energy of a feed: emitted, received, lost, miracle."
    yield "# TYPE powertcp_audit_feed_joules gauge"
    for feed in law.feeds:
        for term, amount in (
            ("emitted", feed.emitted_uj),
            ("received", feed.received_uj),
            ("lost", feed.lost_uj),
            ("miracle", feed.miracle_uj),
        ):
            if amount is not None:
                labels = f'feed="{feed.feed.translate(_ESCAPES)}",term="{term}"'
                yield f"powertcp_audit_feed_joules{{{labels}}} {_decimal(amount)}"
    yield "# HELP powertcp_audit_feed_chi Received through emitted, a lower bound."
    yield "# TYPE powertcp_audit_feed_chi gauge"
    for feed in law.feeds:
        if feed.chi_ppm is not None:
            label = f'feed="{feed.feed.translate(_ESCAPES)}"'
            yield f"powertcp_audit_feed_chi{{{label}}} {_decimal(feed.chi_ppm)}"


def _decimal(millionths: int) -> str:
    sign, value = "-" * (millionths < 0), abs(millionths)
    return f"{sign}{value // PPM}.{value % PPM:06}"
