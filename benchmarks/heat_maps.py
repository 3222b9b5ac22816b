"""Time of damage % + Grad-CAM of one photo, against named peers, in one run on one machine.

    python benchmarks/heat_maps.py [--rounds 15]

Medians with minimum and maximum; the ratio is the peer's median over ours, so above 1 we are
faster. The bare forward pass computes no heat map at all.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pytorch_grad_cam import GradCAM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from heritage.backbones import BACKBONES
from heritage.classifiers import build_classifier
from heritage.heatmaps import grad_cam


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds\n")
    print(
        "| Backbone | ours, ms | bare forward, ms | pytorch-grad-cam, ms "
        "| forward / ours | pytorch-grad-cam / ours |"
    )
    print("|---|--:|--:|--:|--:|--:|")
    for backbone in BACKBONES.values():
        side = backbone.input_size_px
        x = torch.randn(1, 3, side, side * 4 // 3)
        ours_model = build_classifier(backbone).requires_grad_(False).eval()
        peer_model = build_classifier(backbone).eval()
        peer = GradCAM(model=peer_model, target_layers=[peer_model.features])

        def forward(model=peer_model, x=x) -> None:
            with torch.no_grad():
                model(x)

        contenders: dict[str, Callable[[], object]] = {
            "ours": lambda model=ours_model, x=x: grad_cam(model, x),
            "forward": forward,
            "peer": lambda peer=peer, x=x: peer(input_tensor=x, targets=[lambda output: output[0]]),
        }
        times = {name: [] for name in contenders}
        for round_ in range(rounds + 3):
            for name, run in contenders.items():  # interleaved, so that all see the same machine
                started = time.perf_counter()
                run()
                if round_ >= 3:
                    times[name].append((time.perf_counter() - started) * 1000)
        median = {name: statistics.median(values) for name, values in times.items()}
        cells = [f"{median[n]:.1f} ({min(times[n]):.1f}–{max(times[n]):.1f})" for n in contenders]
        ratios = [f"{median[name] / median['ours']:.2f}" for name in ("forward", "peer")]
        print(f"| {backbone.title} | {' | '.join(cells + ratios)} |", flush=True)


if __name__ == "__main__":
    main()
