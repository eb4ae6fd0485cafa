"""`powertcp mplamps pdp`: the policeman of a network, who decides, prices and bills."""

from powertcp.cli.parser import Parser

EXAMPLE = """examples:
  powertcp mplamps pdp --topology street.toml --market market.toml
  powertcp mplamps pdp --set-price 7=0.40                 a kWh of supplier 7, from now on
  powertcp mplamps pdp --withdraw 7                       it is bankrupt: its circuits end
  powertcp mplamps pdp --restore 7                        it sells again
  powertcp mplamps pdp --pay Ada=50.00                    her credit is that much greater
  powertcp mplamps pdp --topology street.toml --market market.toml --bill

Edge LSRs connect to TCP port 3288 of the node of kind pdp, and ask for each circuit. What a circuit is
charged stands in the ledger before anybody hears of it; a policeman that begins again goes on from there.
Times of day in the market are UTC.

signals: TERM, INT end (edge LSRs are told, circuits stay), HUP reads the market again, USR1 logs a status.
exit status: 0 done, 1 an order is refused, or bills and ledger differ, 2 usage or configuration,
3 no policeman answers, 70 a bug"""
_ORDERS = ("set_price", "withdraw", "restore", "pay")


def build_parser() -> Parser:
    """Return the parser of `powertcp mplamps pdp`."""
    parser = Parser("mplamps pdp", "Decide on circuits, price and bill their energy.", EXAMPLE)
    add = parser.add_argument
    add("--topology", metavar="FILE", help="the network: a file, or street:N and the like")
    add("--market", metavar="FILE", help="suppliers, prices and contracts (TOML)")
    where = "ADDRESS[:PORT], repeatable (port 3288 of the node of kind pdp)"
    add("--listen", action="append", metavar="ADDR", help=where)
    add("--bill", action="store_true", help="print what each customer owes, and exit")
    price = "tell the running one that a kWh of supplier ID costs PRICE"
    add("--set-price", metavar="ID=PRICE", help=price)
    add("--withdraw", metavar="ID", help="tell the running one that supplier ID sells no more")
    add("--restore", metavar="ID", help="tell the running one that supplier ID sells again")
    add("--pay", metavar="NAME=AMOUNT", help="tell the running one that a customer has paid")
    add("--control", metavar="PATH", help="control socket (pdp-PID.sock)")
    add("--state-dir", metavar="DIR", help="ledger, meter key, control socket")
    add("--log-format", choices=("text", "json"), help="of the log on stderr (text)")
    add("--config", metavar="FILE", help="TOML file (XDG, then /etc/powertcp/pdp.toml)")
    add("--check", action="store_true", help="read configuration, topology and market, and exit")
    add("--json", action="store_true", help="one JSON object per line on stdout")
    add("-v", "--verbose", action="store_true", help="say more")
    add("-q", "--quiet", action="store_true", help="say less")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp mplamps pdp`; returns the exit status."""
    parser = build_parser()
    arguments = vars(parser.parse_args(argv))
    orders = {name: text for name in _ORDERS if (text := arguments.pop(name)) is not None}
    is_bill = arguments.pop("bill")
    if len(orders) + is_bill > 1:
        parser.error("choose one of --bill, --set-price, --withdraw, --restore and --pay")
    # the event loop and the database come with them: help and wrong words do without
    if is_bill:
        from powertcp.cli.pdp_bills import bill

        return bill(arguments)
    if orders:
        from powertcp.cli.pdp_orders import order

        [(name, text)] = orders.items()
        return order(name, text, arguments["control"] or "", as_json=arguments["json"])
    from powertcp.cli.pdp_daemon import police

    return police(arguments)
