"""`python -m kdkeras`: the command line."""

import sys

from kdkeras import cli

if __name__ == "__main__":
    sys.exit(cli.main())
