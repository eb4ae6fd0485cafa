"""`python -m powertcp`: the command line without an installed script."""

import sys

from powertcp.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
