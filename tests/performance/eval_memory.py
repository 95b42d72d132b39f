"""The peak memory of an evaluation, on so many pictures and on four times as many.

    python tests/performance/eval_memory.py [RECIPE [PICTURES]]

Measures the tiny parents and a merged model of theirs, which need not be trained for that, by every benchmark of a
recipe (default: quickstart), each time in a process of its own, as `vfmerge eval` does when it remembers nothing.
Prints both peaks and their ratio, and exits with 1 if more pictures take more memory. Fewer pictures than a batch (64)
need less than a batch does, which shows nothing. Linux only.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

_RECIPE, _PICTURES = "quickstart", 96
_LIMIT = 1.1


def measure(name: str, pictures: int) -> int:
    """Measure a recipe with so many pictures in each data set that it measures on or learns from; the rows' number."""
    from vfmerge import measurement, parts, recipe, retention
    from vfmerge.model import MergedModel

    used = {data for each in recipe.load(name).evaluate.values() for data in (each.data, each.train) if data}
    plan = recipe.load(name, [f"data.{data}.count={pictures}" for data in sorted(used)])
    adapters = parts.build_adapters(plan)
    teachers = {task: adapter.teacher() for task, adapter in adapters.items()}
    merged = MergedModel(adapters, base=plan.base)
    merged.start(teachers)
    parents, model = measurement.parents_of(adapters, teachers), measurement.merged_of(merged.eval())
    return len(retention.measure_all(plan.evaluate, parents, [model], parts.build_sources(plan)))


def peak() -> int:
    """The most memory that this process has had, in bytes. Not `ru_maxrss`, which may be that of who started it."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(line)


def measure_apart(name: str, pictures: int) -> int:
    """Peak bytes of a process of its own that measures."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--here", name, str(pictures)]
    rows, most = map(int, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-2:])
    seconds = time.perf_counter() - began
    print(f"{pictures:6} pictures: {rows} rows, {seconds:4.0f} s, peak {most / 1e6:7.1f} MB", flush=True)
    return most


def main(name: str = _RECIPE, pictures: str = str(_PICTURES)) -> int:
    """Print the ratio; 1 if it is too large."""
    once, four_times = (measure_apart(name, times * int(pictures)) for times in (1, 4))
    print(f"ratio {four_times / once:.3f}   (at most {_LIMIT})")
    return int(four_times > _LIMIT * once)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        print(measure(sys.argv[2], int(sys.argv[3])), peak())
    else:
        sys.exit(main(*sys.argv[1:]))
