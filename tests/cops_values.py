"""What a message of COPS says, in one form for the hand-written codec and for the schema."""

from typing import Any

from powertcp.mplamps.cops import Message, encode_message
from powertcp.wire.cops_values import parse_message

Values = dict[str, Any]
IGNORED = ("INTEGRITY", "OUT_INTERFACE", "NAMED_CLIENT_SI")


def own_values(said: Message | Values) -> Values:
    """Return the values of a message, of which the hand-written codec keeps what it needs.

    What was decoded by hand is encoded by hand and parsed by the schema.
    """
    if not isinstance(said, dict):
        said = parse_message(encode_message(said))
    objects: list[Values] = []
    data = ""
    for row in said["objects"]:
        one = dict(row)
        if one["object"] == "DECISION_FLAGS":
            one["flags"] &= 1
        if "data" in one and one["object"] not in IGNORED:
            # in halves or whole, and none is an empty one
            data += one["data"]
        elif one["object"] not in IGNORED:
            objects.append(one)
    return {**said, "objects": objects, "data": data}
