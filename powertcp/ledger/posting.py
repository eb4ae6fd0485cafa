"""What is posted for a page, and for energy without one: the accounts of ledger section 7.2."""

from typing import Final

from powertcp.ledger.book import Code, Transfer, transfer_key
from powertcp.ledger.memo import flow_memo
from powertcp.ledger.receipt import Page, Side

ENERGY: Final = "uJ"
SELF: Final = "self"


def _energy_ways(side: Side, here: str, there: str, load: str) -> tuple[tuple[str, str, Code], ...]:
    """Return (debit, credit, code) of energy: out of a supply, or into a store and to a load."""
    if side is Side.SOURCE:
        return ((f"sink:{there}", f"source:{here}", Code.RECEIPT),)
    ways = ((f"store:{here}", f"from:{there}", Code.RECEIPT),)
    return (*ways, (f"load:{load}", f"store:{here}", Code.LOAD)) if load else ways


def _money(page: Page, side: Side, there: str, currency: str, memo: str) -> Transfer:
    """Return the payment of a page; a negative cost is paid by who delivers."""
    sink, source = (there, SELF) if side is Side.SOURCE else (SELF, there)
    debit, credit = f"payer:{sink}", f"payee:{source}"
    if page.cost_micro < 0:
        debit, credit = f"payer:{source}", f"payee:{sink}"
    return Transfer(
        key=transfer_key(page.transcript, page.page, f"money {side.name}", debit, credit),
        debit=debit,
        credit=credit,
        unit=f"micro-{currency}",
        amount=abs(page.cost_micro),
        code=Code.MONEY,
        memo=memo,
    )


def page_transfers(
    page: Page,
    side: Side,
    *,
    here: str,
    there: str,
    load: str = "",
    currency: str = "",
    who: str = "",
) -> tuple[Transfer, ...]:
    """Return what is posted with a page that both have signed, to be committed together with it.

    here: our supply, or the store of our load. there: the other party. load: what uses the energy
    at once, "" if it stays in the store. currency: of the tariff, ISO 4217; "" without one. who: who
    drew, for the memo.
    """
    memo = flow_memo(page.transcript, page.page, who)
    transfers = []
    if page.energy_uj:
        for debit, credit, code in _energy_ways(side, here, there, load):
            key = transfer_key(page.transcript, page.page, f"energy {side.name}", debit, credit)
            transfers.append(
                Transfer(
                    key=key,
                    debit=debit,
                    credit=credit,
                    unit=ENERGY,
                    amount=page.energy_uj,
                    code=code,
                    memo=memo,
                )
            )
    # LEDG-7-03
    if page.cost_micro and currency:
        transfers.append(_money(page, side, there, currency, memo))
    return tuple(transfers)


def unsigned_transfers(
    flow: bytes,
    number: int,
    amount_uj: int,
    side: Side,
    *,
    here: str,
    there: str,
    load: str = "",
    who: str = "",
) -> tuple[Transfer, ...]:
    """Return what is posted of a flow without METER: `amount_uj` since the posting before.

    flow: 32 octets that name the flow for good. number: of this posting, from 0. Others as in
    `page_transfers`. Nothing is posted of nothing.
    """
    if not amount_uj:
        return ()
    transfers = []
    for debit, credit, code in _energy_ways(side, here, there, load):
        said = Code.UNSIGNED if code is Code.RECEIPT else code
        key = transfer_key(flow, number, f"unsigned {side.name}", debit, credit)
        transfers.append(
            Transfer(
                key=key,
                debit=debit,
                credit=credit,
                unit=ENERGY,
                amount=amount_uj,
                code=said,
                memo=who,
            )
        )
    return tuple(transfers)
