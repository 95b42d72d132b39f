"""How long `vfmerge --help` takes against `python -c "import click"`: at most three times as long.

    python tests/performance/help_time.py

Both are started in turn, so that whatever else the machine does falls on both. Prints the medians and their ratio, and
exits with 1 if it is above three.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

_ROUNDS = 21
_LIMIT = 3.0
_COMMANDS = {
    "import click": [sys.executable, "-c", "import click"],
    "vfmerge --help": [sys.executable, "-m", "vfmerge", "--help"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one process, from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure(rounds: int = _ROUNDS) -> dict[str, float]:
    """Median seconds of each command; the first round warms the file cache and does not count."""
    taken = [{name: seconds(command) for name, command in _COMMANDS.items()} for _ in range(rounds + 1)][1:]
    return {name: statistics.median(each[name] for each in taken) for name in _COMMANDS}


def main() -> int:
    """Print the ratio; 1 if it is too large."""
    medians = measure()
    for name, median in medians.items():
        print(f"{name:16} {1000 * median:6.0f} ms")
    ratio = medians["vfmerge --help"] / medians["import click"]
    print(f"ratio            {ratio:6.2f}   (at most {_LIMIT:.0f})")
    return int(ratio > _LIMIT)


if __name__ == "__main__":
    sys.exit(main())
