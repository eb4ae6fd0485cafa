"""What the memo of a transfer says: which page of which flow or feed it belongs to.

`flow TRANSCRIPT/PAGE` for a page of a flow, `feed ID/EPOCH/NUMBER` for an emission or a page of a
feed; any other memo is a remark. After the page stands who drew, if that was asked: `by NAME`, and
`certificate SERIAL` where one was shown. The memo is in the chain, so an account is tied to its pages by
the same digest as to its amounts.
"""

import re
from typing import Final, NamedTuple

MAX_U32: Final = 0xFFFF_FFFF
_FLOW = re.compile(r"flow ([0-9a-f]{64})/(\d{1,10})(?: (by \S+(?: certificate \d+)?))?")
_FEED = re.compile(r"feed ([0-9a-f]{32})/(\d{1,10})/(\d{1,20})")


class FlowMemo(NamedTuple):
    """A page of a flow: the transcript of its handshake, 32 octets, and the page's number.

    who: `by NAME`, perhaps with a certificate; "" where nobody asked who draws.
    """

    transcript: bytes
    page: int
    who: str = ""


class FeedMemo(NamedTuple):
    """A posting of a feed: its id, 16 octets, its epoch, and the number of page or emission."""

    feed: bytes
    epoch: int
    number: int


def who_memo(name: str, serial: int = 0) -> str:
    """Return who drew: `name`, by a certificate of that serial number, 0 for none."""
    return f"by {name} certificate {serial}" if serial else f"by {name}"


def flow_memo(transcript: bytes, page: int, who: str = "") -> str:
    """Return the memo of what is posted with `page` of a flow. who: of `who_memo`, or ""."""
    memo = f"flow {transcript.hex()}/{page}"
    return f"{memo} {who}" if who else memo


def feed_memo(feed: bytes, epoch: int, number: int) -> str:
    """Return the memo of an emission of a feed, or of a page that one of its receivers signed."""
    return f"feed {feed.hex()}/{epoch}/{number}"


def read_memo(memo: str) -> FlowMemo | FeedMemo | None:
    """Return what a memo names; None for a remark."""
    if found := _FLOW.fullmatch(memo):
        return FlowMemo(bytes.fromhex(found[1]), int(found[2]), found[3] or "")
    found = _FEED.fullmatch(memo)
    if found is None or int(found[2]) > MAX_U32:
        return None
    return FeedMemo(bytes.fromhex(found[1]), int(found[2]), int(found[3]))
