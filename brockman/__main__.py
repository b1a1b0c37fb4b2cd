"""`python -m brockman`: the same as the command `brockman`."""

import sys

from brockman.cli import main

if __name__ == "__main__":
    sys.exit(main())
