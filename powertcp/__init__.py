"""Power over TCP: voltage and current are requested in the handshake, electricity is the payload."""

__version__ = "0.1.0"
