"""What subscribers of a feed say on their connections, and what they are answered."""

from collections.abc import Iterable

from powertcp.drivers.feed import FeedStation
from powertcp.drivers.session import Session
from powertcp.machine import Event
from powertcp.potcp.events import (
    ConnectionTerminated,
)
from powertcp.potcp.feed import FeedAsked, FeedLeft, FeedReceiptReceived, refuse_feed
from powertcp.registry import Reason, Refusal


def heed_subscribers(
    station: FeedStation | None,
    session: Session,
    events: Iterable[Event],
    *,
    needs_seal: bool = False,
) -> None:
    """Answer what a connection says of feeds; without a station there are none.

    What every subscriber gets is sent once, in clear: nothing for whom power must be sealed.
    """
    for event in events:
        match event:
            case FeedAsked(feed=feed):
                if station is None or session.identity.is_sealed:
                    session.machine.send(refuse_feed(feed))
                # VPPN-2.2-04
                elif needs_seal:
                    session.machine.send(refuse_feed(feed, Refusal(Reason.SEAL_REQUIRED)))
                else:
                    session.machine.send(station.subscribe(session.wire, feed))
            case FeedLeft() | ConnectionTerminated() if station is not None:
                station.leave(session.wire)
            case FeedReceiptReceived(feed=feed, page=page) if station is not None:
                session.meter = station.take_receipt(feed, page, session.meter, session.peer)
            case _:
                pass
