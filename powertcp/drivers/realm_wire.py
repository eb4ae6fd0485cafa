"""A connection between two providers of a realm: messages sealed under the realm's secret.

Both send 32 octets at random; two keys, one for each direction, come of these and the secret. Each
message is its length in 2 octets, more significant first, and that many octets sealed by
ChaCha20-Poly1305 with a nonce that counts. DPDP section 10.
"""

import os
import socket
from contextlib import suppress
from hashlib import blake2s
from typing import Final

import trio

from powertcp.crypto import NONCE_OCTETS, TAG_OCTETS, Aead
from powertcp.errors import DecodeError, WireBroken
from powertcp.potcp.realm import Message, decode_message, encode_message

RANDOM_OCTETS: Final = 32
MAX_OCTETS: Final = 65_535
GREET_S: Final = 5.0
UNHEARD_MS: Final = 3000  # what is not acknowledged for three beats ends the connection
_PERSON: Final = (b"realm to", b"realm fr")


class RealmWire:
    """One connection. is_dialer: we opened it. peer: for people."""

    def __init__(self, stream: trio.SocketStream, peer: str) -> None:
        """Take a connected stream; `greet` comes first."""
        self.peer = peer
        self._stream = stream
        # DPDP-10-08: TCP alone would try for a quarter of an hour
        with suppress(OSError):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS)
        self._buffer = bytearray()
        self._ways: tuple[Aead, Aead] | None = None
        self._sent = self._received = 0
        self._busy = trio.Lock()

    # DPDP-10-08
    async def greet(self, secret: bytes, *, is_dialer: bool) -> None:
        """Agree on keys, in 5 s. Raises WireBroken, trio.TooSlowError."""
        with trio.fail_after(GREET_S):
            ours = os.urandom(RANDOM_OCTETS)
            await self._send(ours)
            theirs = await self._take(RANDOM_OCTETS)
        text = ours + theirs if is_dialer else theirs + ours
        ways = [Aead(blake2s(text, key=secret, person=one).digest()) for one in _PERSON]
        self._ways = (ways[0], ways[1]) if is_dialer else (ways[1], ways[0])

    async def send(self, message: Message) -> None:
        """Send a message. Raises WireBroken."""
        if self._ways is None:
            raise WireBroken("keys come first")
        async with self._busy:
            nonce = self._sent.to_bytes(NONCE_OCTETS, "big")
            self._sent += 1
            sealed = self._ways[0].seal(nonce, encode_message(message))
            await self._send(len(sealed).to_bytes(2, "big") + sealed)

    async def receive(self) -> Message:
        """Return the next message. Raises WireBroken, DecodeError."""
        if self._ways is None:
            raise WireBroken("keys come first")
        length = int.from_bytes(await self._take(2), "big")
        if length < TAG_OCTETS:
            raise DecodeError(0, "length", 502, length, TAG_OCTETS)
        sealed = await self._take(length)
        nonce = self._received.to_bytes(NONCE_OCTETS, "big")
        self._received += 1
        return decode_message(self._ways[1].unseal(nonce, sealed))

    @property
    def socket(self) -> trio.socket.SocketType:
        """The socket, for its addresses."""
        return self._stream.socket

    def close(self) -> None:
        """End at once: whoever reads or writes gets WireBroken."""
        self._stream.socket.close()

    async def _send(self, octets: bytes) -> None:
        try:
            await self._stream.send_all(octets)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise WireBroken(f"{self.peer}: the connection is gone") from error

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            try:
                more = await self._stream.receive_some(MAX_OCTETS)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise WireBroken(f"{self.peer}: the connection is gone") from error
            if not more:
                raise WireBroken(f"{self.peer}: it hung up")
            self._buffer += more
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found
