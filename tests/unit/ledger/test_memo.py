"""Memos tie accounts to pages."""

import pytest

from powertcp.ledger.memo import (
    FeedMemo,
    FlowMemo,
    feed_memo,
    flow_memo,
    read_memo,
    who_memo,
)

TRANSCRIPT = bytes(range(32))
FEED = bytes(range(16))


def test_what_is_written_is_read() -> None:
    assert read_memo(flow_memo(TRANSCRIPT, 7)) == FlowMemo(TRANSCRIPT, 7)
    assert read_memo(feed_memo(FEED, 2**32 - 1, 12)) == FeedMemo(FEED, 2**32 - 1, 12)


def test_who_drew_stands_after_the_page() -> None:
    who = who_memo("alice@lamp", 4711)
    assert flow_memo(TRANSCRIPT, 7, who).endswith("/7 by alice@lamp certificate 4711")
    assert read_memo(flow_memo(TRANSCRIPT, 7, who)) == FlowMemo(TRANSCRIPT, 7, who)
    assert read_memo(flow_memo(TRANSCRIPT, 7, who_memo("guest"))) == FlowMemo(
        TRANSCRIPT, 7, "by guest"
    )


@pytest.mark.parametrize(
    "memo",
    [
        "",
        "corrected by hand",
        "flow 00/1",
        f"flow {TRANSCRIPT.hex()}",
        f"flow {TRANSCRIPT.hex()}/-1",
        f"flow {TRANSCRIPT.hex().upper()}/1",
        f"feed {FEED.hex()}/1",
        f"feed {FEED.hex()}/{2**32}/1",
        f" flow {TRANSCRIPT.hex()}/1",
        f"flow {TRANSCRIPT.hex()}/1 by ",
        f"flow {TRANSCRIPT.hex()}/1 by a certificate x",
    ],
)
def test_any_other_memo_is_a_remark(memo: str) -> None:
    assert read_memo(memo) is None
