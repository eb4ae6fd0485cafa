"""A process that posts to a ledger until it is killed; it says what was acknowledged.

python ledger_load.py FOLDER FIRST LIMIT TASKS: posts pages FIRST, FIRST + 1, .. from TASKS tasks;
prints "PAGE SEQ" of the energy after each acknowledgement and "refused CODE" when the ledger becomes read-only.
No file may grow beyond LIMIT octets, 0: none.
"""

import itertools
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import trio

from powertcp.drivers.ledger import Ledger, open_ledger
from powertcp.errors import PowerRefused
from powertcp.ledger import Kind
from powertcp.store import PageState
from tests.ledgers import page_row, transfer


def say(text: str) -> None:
    """Write a line at once: what is in the pipe outlives the process."""
    os.write(1, f"{text}\n".encode())


async def post(ledger: Ledger, numbers: Iterator[int]) -> None:
    """Post one batch after the other: energy alone, with its money, with a page, reserved."""
    for page in numbers:
        energy = transfer(page, page % 1000 + 1)
        money = transfer(page, 3, debit="payer:lamp", credit="payee:main", unit="micro-EUR",
                         role="money")  # fmt: skip
        try:
            match page % 4:
                case 0:
                    posted = await ledger.post(energy)
                case 1:
                    posted = await ledger.post(energy, money)
                case 2:
                    row = page_row(page, page // 4 % 2, PageState.COUNTERSIGNED)
                    posted = await ledger.post_page(
                        row.transcript, page, row.side, row.body, row.state, energy
                    )
                case _:
                    hold = transfer(page, 2000, kind=Kind.PENDING, role="hold")
                    used = transfer(page, page % 1000 + 1, kind=Kind.POST_PENDING, pending=hold.key)
                    posted = await ledger.post(hold, used)
        except PowerRefused as refused:
            say(f"refused {refused.refusal.code}")
            return
        say(f"{page} {posted.seqs[page % 4 == 3]}")


async def main(*arguments: str) -> None:
    """Open the ledger and post for ever."""
    folder, first, limit, tasks = arguments
    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    numbers = itertools.count(int(first))
    async with open_ledger(Path(folder), os.urandom, head_s=0.05) as ledger:
        say("open")
        async with trio.open_nursery() as nursery:
            for _ in range(int(tasks)):
                nursery.start_soon(post, ledger, numbers)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
