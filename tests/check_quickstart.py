"""Check what a whole `vfmerge run quickstart` promised: python tests/check_quickstart.py RUN, as `.ci/run` does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# metric: least merged / parent, on held-out scenes
PROMISED = {"box_miou": 0.98, "top1": 0.90, "miou_two_heads": 1.0}


def main() -> int:
    run = Path(sys.argv[1])
    rows = {row["metric"]: row for row in json.loads((run / "retention.json").read_text())}
    failed = False
    for metric, least in PROMISED.items():
        kept = rows[metric]["retention"]
        failed |= kept < least
        print(f"{metric}: {kept:.3f} of the parent's, promised {least:.2f}: {'ok' if kept >= least else 'FAILED'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
