"""`powertcp mplamps pdp --bill`: what each customer owes, from the books of the policeman."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from powertcp.cli.books import NoLedger, ledger_at, open_ledger
from powertcp.cli.config import load
from powertcp.cli.pdp_daemon import PdpOptions, check_currency, read_plans
from powertcp.cli.topologies import columns
from powertcp.drivers.daemon import state_folder
from powertcp.drivers.pdp_books import NETWORK, SUPPLIER
from powertcp.drivers.pdp_desk import bill_fields
from powertcp.drivers.pdp_lines import Kept
from powertcp.errors import ConfigError
from powertcp.ledger.statement import joules, money
from powertcp.mplamps.market import Bill, Market, MarketState, find_residual
from powertcp.store import LedgerStore

DONE: Final = 0
NO: Final = 1
_NOT_KEYS = ("config", "check", "json", "verbose", "quiet")


def bill(arguments: Mapping[str, Any]) -> int:
    """Print the bills; returns the exit status. Raises ConfigError, HostError, LedgerBroken."""
    flags = {name: value for name, value in arguments.items() if name not in _NOT_KEYS}
    found = load(PdpOptions, "pdp", flags, config=arguments["config"], environ=os.environ)
    options = found.options
    _, market = read_plans(options)
    state = state_folder(os.environ, "pdp", options.state_dir)
    kept = Kept()
    try:
        path = ledger_at(str(state))
    except NoLedger as error:
        raise ConfigError("command line", "--state-dir", str(error)) from error
    with open_ledger(path) as store, store.at_one_moment():
        for event in store.events():
            kept.take(event)
        check_currency(kept, market, options.market)
        bills = _bills(kept, market)
        difference = ledger_difference(store, bills)
    residual = find_residual(bills)
    if arguments["json"]:
        for one in bills:
            print(json.dumps(bill_fields(one, market)))
        for customer, amount in sorted(kept.paid.items()):
            print(json.dumps({"customer": customer, "paid_micro": amount}))
        print(json.dumps({"residual_micro": residual, "ledger_difference_micro": difference}))
    else:
        _print(bills, kept, market)
        unit = f"micro-{market.currency}"
        print(f"residual {residual} {unit}, difference to the ledger {difference} {unit}")
    return NO if residual or difference else DONE


def _bills(kept: Kept, market: Market) -> list[Bill]:
    state = MarketState(market)
    for total in kept.totals.values():
        state.restore_total(total)
    return state.bills()


def ledger_difference(store: LedgerStore, bills: list[Bill]) -> int:
    """Return by how much bills and accounts differ, all parties together: 0."""
    wanted: Counter[str] = Counter()
    for one in bills:
        wanted[one.customer] -= one.amount
        wanted[f"{SUPPLIER}{one.supplier}"] += one.for_supply
        wanted[NETWORK] += one.for_network
    for account in store.accounts():
        kind, _, party = account.name.partition(":")
        if kind in ("payer", "payee"):
            wanted[party] -= account.balance
    return sum(abs(amount) for amount in wanted.values())


def _print(bills: list[Bill], kept: Kept, market: Market) -> None:
    currency = market.currency
    customers = sorted({one.customer for one in bills} | kept.paid.keys())
    for customer in customers:
        rows: list[tuple[str, ...]] = [("SUPPLIER", "ENERGY", "SUPPLY", "NETWORK", "AMOUNT")]
        own = [one for one in bills if one.customer == customer]
        for one in own:
            found = market.suppliers.get(one.supplier)
            name = f"{one.supplier} {found.name}" if found else str(one.supplier)
            amounts = (one.for_supply, one.for_network, one.amount)
            cells = (money(amount, currency) for amount in amounts)
            rows.append((name, joules(one.energy_uj), *cells))
        owed, paid = sum(one.amount for one in own), kept.paid[customer]
        print(f"INVOICE  {customer}")
        for line in columns(rows):
            print(f"  {line}")
        said = (
            f"; paid {money(paid, currency)}, open {money(owed - paid, currency)}" if paid else ""
        )
        print(f"  sum {money(owed, currency)}{said}\n")
