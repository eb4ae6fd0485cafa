"""What people type: one module per command, imported only when it is asked for."""

from powertcp.cli.main import main

__all__ = ["main"]
