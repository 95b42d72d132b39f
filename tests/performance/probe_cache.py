"""What caching frozen features and targets is worth in a head-probing stage: python tests/performance/probe_cache.py

Takes steps of quickstart's probe stage with and without its cache in turn, in one process, and prints the median CPU
time of each and their ratio, the time that filling the cache took, and after how many steps it has paid for itself.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from pathlib import Path

import torch

from vfmerge import engine, flow, optimizer, parts, recipe, session, signals

SAMPLES, ROUNDS = 512, 15


def main() -> None:
    plan = recipe.load("quickstart", [f"data.images.count={SAMPLES}"])
    adapters, sources = parts.build_adapters(plan), parts.build_sources(plan)
    with tempfile.TemporaryDirectory() as folder:
        run = session.begin(
            plan,
            Path(folder),
            device=torch.device("cpu"),
            adapters=adapters,
            sources=sources,
            request=signals.Request(),
        )
        stage = plan.stages["probe"]
        optimizer.freeze(run.model, stage)
        adamw = optimizer.build(run.model, stage, plan.optimizer)
        began = time.process_time()
        cached = flow.open_flow(run, "probe", stage, number=0, start=0)
        filling = time.process_time() - began
        plain = flow.open_flow(run, "probe", stage.model_copy(update={"cache": False}), number=0, start=0)
        seconds = measure(run, adamw, {"cached": cached, "plain": plain})
        run.close()
    ratio = seconds["plain"] / seconds["cached"]
    saved = seconds["plain"] - seconds["cached"]
    print(f"a probe step: {seconds['plain']:.3f} s plain, {seconds['cached']:.3f} s cached: x{ratio:.2f} (CPU, median)")
    print(f"filling the cache of {SAMPLES} samples: {filling:.1f} s, paid for after {filling / saved:.0f} steps")


def measure(run: session.Session, adamw: torch.optim.AdamW, flows: dict[str, flow.Flow]) -> dict[str, float]:
    """Median CPU seconds of a whole step with each flow, taken in turn; the first round is not counted."""
    inputs = {name: each.steps(0, ROUNDS + 1) for name, each in flows.items()}
    spent: dict[str, list[float]] = {name: [] for name in flows}
    for _ in range(ROUNDS + 1):
        for name, each in flows.items():
            began = time.process_time()
            adamw.zero_grad(set_to_none=True)
            terms = engine.learn(run, each.plan, *next(inputs[name]), number=0)
            engine.apply(run, adamw, terms, largest=math.inf)
            spent[name].append(time.process_time() - began)
    return {name: statistics.median(times[1:]) for name, times in spent.items()}


if __name__ == "__main__":
    main()
