"""One message of COPS of each kind, as an edge LSR and its policeman exchange them."""

from ipaddress import IPv4Address

from powertcp.mplamps.cops import (
    ClientAccept,
    ClientClose,
    ClientOpen,
    Code,
    Command,
    Decision,
    DecisionError,
    DeleteReason,
    DeleteRequest,
    ErrorCode,
    Interface,
    KeepAlive,
    Message,
    Report,
    ReportKind,
    Request,
    ServerAddress,
    SynchronizeComplete,
    SynchronizeRequest,
)
from powertcp.mplamps.power import MeterObject, TariffKind, TariffObject
from tests.rsvp_messages import GOLDEN_PATH

HANDLE = bytes.fromhex("0000002a")
POLICEMAN = ServerAddress(IPv4Address("10.0.0.9"), 3288)
# the objects of a PATH are what follows the common header
PATH_OBJECTS = GOLDEN_PATH[8:]
QUOTE = TariffObject.make(TariffKind.QUOTE, 290_000, "EUR", supplier=7, tariff_id=1, valid_s=60)
OFFERS = [TariffObject.make(TariffKind.OFFER, 10**5 * n, "EUR", supplier=n) for n in range(1, 9)]
METER = MeterObject.make(seconds=60, energy_uj=3_588_000_000, packets=1_200, octets=99_000)
# node 10.0.0.9, flags 0x04, code 252, value 104, PEN
ERROR_SPEC = bytes.fromhex("001006010a00000904fc006800007ed9")

MESSAGES: dict[str, Message] = {
    "open": ClientOpen(pep_id="10.0.0.4"),
    "open again": ClientOpen(pep_id="10.0.0.14", last_pdp=POLICEMAN),
    "accept": ClientAccept(keep_alive_s=30, accounting_s=60),
    "accept without accounting": ClientAccept(keep_alive_s=0),
    "request": Request(
        handle=HANDLE, interface=Interface(IPv4Address("10.0.0.5"), 4), info=PATH_OBJECTS
    ),
    "install": Decision(handle=HANDLE, command=Command.INSTALL, data=QUOTE.to_wire()),
    "new price": Decision(
        handle=HANDLE, command=Command.INSTALL, data=QUOTE.to_wire(), is_solicited=False
    ),
    "nothing": Decision(handle=HANDLE, command=Command.NULL),
    "remove": Decision(
        handle=HANDLE,
        command=Command.REMOVE,
        is_error_triggered=True,
        data=ERROR_SPEC + b"".join(offer.to_wire() for offer in OFFERS),
    ),
    "not understood": DecisionError(handle=HANDLE, error=Code(ErrorCode.UNKNOWN_OBJECT, 0x0709)),
    "closed": Report(handle=HANDLE, kind=ReportKind.SUCCESS, is_solicited=True),
    "failed": Report(handle=HANDLE, kind=ReportKind.FAILURE, is_solicited=True),
    "meter": Report(handle=HANDLE, kind=ReportKind.ACCOUNTING, info=METER.to_wire()),
    "delete": DeleteRequest(handle=HANDLE, reason=Code(DeleteReason.TEAR)),
    "synchronize": SynchronizeRequest(),
    "synchronize one": SynchronizeRequest(handle=HANDLE),
    "complete": SynchronizeComplete(),
    "complete one": SynchronizeComplete(handle=b"odd"),
    "keep alive": KeepAlive(),
    "close": ClientClose(error=Code(ErrorCode.SHUTTING_DOWN)),
    "close all": ClientClose(error=Code(ErrorCode.REDIRECT), redirect=POLICEMAN, of_all=True),
}
