"""Time of one training step: float32, PyTorch's own autocast, and ours, in turn in one run.

    python -m benchmarks.training_step [--side 128] [--rounds 7] [--only NAME …]

Ratios are medians over float32's. Without bfloat16 arithmetic in the processor all three would be
the same, so nothing is measured there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from heritage.backbones import BACKBONES, CASCADE
from heritage.classifiers import build_classifier
from heritage.training.precision import cpu_multiplies_bfloat16, half_precision

CPU = torch.device("cpu")
BATCH = 32
WAYS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "float32": nullcontext,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "ours": lambda: half_precision(CPU),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--only", nargs="*", default=["mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0"]
    )
    given = parser.parse_args()
    if not cpu_multiplies_bfloat16():
        raise SystemExit("this processor has no bfloat16 arithmetic")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.rounds} rounds,")
    print(f"{BATCH} photos of {given.side} px a step; times of float32, median (least to most)\n")
    print("| Backbone | autocast | ours |\n|---|--:|--:|")
    for backbone in BACKBONES.values():
        if backbone.name == CASCADE or backbone.name not in given.only:
            continue
        model = build_classifier(backbone).to(memory_format=torch.channels_last).train()
        x = torch.rand(BATCH, 3, given.side, given.side)
        x = x.contiguous(memory_format=torch.channels_last)
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(given.rounds + 1):
            for way, precision in WAYS.items():
                model.zero_grad()
                started = time.perf_counter()
                with precision():
                    logits = model(x)
                logits.float().square().mean().backward()
                if number:  # the first warms up
                    times[way].append(time.perf_counter() - started)
        base = statistics.median(times["float32"])
        cells = [
            f"{statistics.median(t) / base:.2f} ({min(t) / base:.2f}–{max(t) / base:.2f})"
            for t in (times["autocast"], times["ours"])
        ]
        print(f"| {backbone.title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
