"""Virtual Private Power Network: encrypted power between a consumer and its provider."""

from powertcp.vppn.noise import PROTOCOLS, Cipher, Handshake, PatternId, prologue
from powertcp.vppn.patterns import NoiseProtocol, Token

__all__ = [
    "PROTOCOLS",
    "Cipher",
    "Handshake",
    "NoiseProtocol",
    "PatternId",
    "Token",
    "prologue",
]
