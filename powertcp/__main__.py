"""The door of the command line, `powertcp` and `python -m powertcp`: a signal may come while it opens."""

import sys

_INTERRUPTED = 130


def main() -> int:
    """Run the command that was typed; returns the exit status, also while modules are imported."""
    try:
        from powertcp.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
