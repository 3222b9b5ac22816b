"""Time of damage % + Grad-CAM of one photo, against named peers, in one run on one machine.

    python benchmarks/heat_maps.py [--rounds 11] [--only NAME …]

All run on the CPU, whatever else there is.
Medians with minimum and maximum in milliseconds; a ratio is the peer's median over ours, so above 1
we are faster. The bare forward pass in PyTorch computes no heat map at all. Each call that is timed
follows another of the same contender, as in a photo set.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from pytorch_grad_cam import GradCAM
from torchcam.methods import GradCAM as TorchCAM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from heritage.backbones import BACKBONES, CASCADE, Backbone
from heritage.cards import ModelCard
from heritage.checkpoints import Checkpoint
from heritage.classifiers import build_classifier
from heritage.engines import Engine
from heritage.training.speed import seconds_awake

VAST = "efficientnet_b7"  # its peers keep some 16 GB for their backward pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--only", nargs="*", help=f"backbones; else all but {VAST}")
    given = parser.parse_args()
    rounds = given.rounds
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, on the CPU, {threads} threads, {rounds} rounds\n")
    print(
        "| Backbone | ours | bare forward | pytorch-grad-cam | TorchCAM "
        "| forward / ours | pytorch-grad-cam / ours | TorchCAM / ours |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for backbone in chosen(given.only):
        side = backbone.input_size_px
        x = torch.randn(1, 3, side, side * 4 // 3)
        card = ModelCard(name=backbone.name, backbone=backbone.name, sha256="", parameters=0)
        frozen = build_classifier(backbone).requires_grad_(False).eval()
        engine = Engine(Checkpoint(frozen, backbone, card), "cpu")  # as the peers
        bare, peer, other = (build_classifier(backbone).eval() for _ in range(3))
        grad_cam = GradCAM(model=peer, target_layers=[peer.features])
        torch_cam = TorchCAM(other, target_layer=other.features)

        def forward(model=bare, x=x) -> None:
            with torch.no_grad():
                model(x)

        contenders: dict[str, Callable[[], object]] = {
            "ours": lambda engine=engine, x=x: engine.answer(x),
            "forward": forward,
            "pytorch-grad-cam": lambda cam=grad_cam, x=x: cam(
                input_tensor=x, targets=[lambda output: output[0]]
            ),
            "TorchCAM": lambda cam=torch_cam, model=other, x=x: cam(0, model(x)),
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for round_ in range(rounds + 2):
            for name, run in contenders.items():  # interleaved, so that all see the same machine
                taken_ms = seconds_awake(run) * 1000
                if round_ >= 2:
                    times[name].append(taken_ms)
        median = {name: statistics.median(values) for name, values in times.items()}
        cells = [f"{median[n]:.1f} ({min(times[n]):.1f}–{max(times[n]):.1f})" for n in contenders]
        ratios = [f"{median[name] / median['ours']:.2f}" for name in list(contenders)[1:]]
        print(f"| {backbone.title} | {' | '.join(cells + ratios)} |", flush=True)


def chosen(only: list[str] | None) -> list[Backbone]:
    """The backbones to time: those named, or all that an ordinary machine has the memory for."""
    names = only or [name for name in BACKBONES if name != VAST]
    return [one for one in BACKBONES.values() if one.name in names and one.name != CASCADE]


if __name__ == "__main__":
    main()
