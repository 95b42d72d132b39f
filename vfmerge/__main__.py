"""`python -m vfmerge`: the same as `vfmerge`."""

from __future__ import annotations

import sys

from vfmerge.cli import main

sys.exit(main())
