"""What a message of RSVP says, in one form for the hand-written codec and for the schema."""

from typing import Any

from powertcp.mplamps.rsvp import Bundle, Received, Rejected, encode_message
from powertcp.wire.rsvp_values import parse_message

Values = dict[str, Any]
Said = dict[str, list[Values]]


def own_values(said: Received | Values) -> Said:
    """Return the values of each kind of object, in the order in which they stand.

    What was decoded by hand is encoded by hand and parsed by the schema; INTEGRITY is left out.
    """
    if isinstance(said, tuple):
        message = said.message
        if isinstance(message, Bundle | Rejected):
            raise TypeError(f"{type(message).__name__} has no values")
        said = parse_message(encode_message(message, said.ttl))
    found: Said = {"": [{"type": said["type"], "ttl": said["ttl"]}]}
    for one in said["objects"]:
        # an Ack goes no further: nothing is forwarded with it
        is_kept = one["object"] != "FOREIGN" or said["type"] != "ACK"
        if one["object"] != "INTEGRITY" and is_kept:
            found.setdefault(one["object"], []).append(one)
    return found
