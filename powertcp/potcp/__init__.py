"""The power plane: a connection's flows from handshake to receipt, without a socket."""

from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.tickets import TicketOffice

__all__ = ["ConnectionConfig", "PowerConnection", "TicketOffice"]
