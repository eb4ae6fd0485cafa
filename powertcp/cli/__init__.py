"""What people type: one module per command, imported only when it is asked for."""

__all__: list[str] = []
