"""`python -m vfmerge`: the same as `vfmerge`."""

from __future__ import annotations

import sys

from vfmerge.cli import main

if __name__ == "__main__":  # a loading process imports this module again
    sys.exit(main())
