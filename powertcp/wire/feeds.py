"""The names of a feed: what binds its blocks and its receipts to the meter that signs it."""

from hashlib import blake2s
from typing import Final

FEED_ID_OCTETS: Final = 16
_ID_CONTEXT: Final = b"powertcp feed id 1"
_TRANSCRIPT_CONTEXT: Final = b"powertcp feed"


# PTCP-12-06
def feed_id(key: bytes) -> bytes:
    """Return the id of the feed of a meter key, 16 octets: nobody else can sign for it."""
    return blake2s(_ID_CONTEXT + key).digest()[:FEED_ID_OCTETS]


# LEDG-6-05
def feed_transcript(feed: bytes, epoch: int) -> bytes:
    """Return what receipts of a feed carry as transcript, 32 octets: of its id and epoch, 32 bits."""
    return blake2s(_TRANSCRIPT_CONTEXT + feed + epoch.to_bytes(4, "big")).digest()
