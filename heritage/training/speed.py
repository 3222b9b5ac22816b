"""How quick an inspection is, against a named peer timed in turn with it in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from heritage.backbones import get_backbone
from heritage.checkpoints import Checkpoint
from heritage.classifiers import build_classifier
from heritage.engines import Engine

SETTLE_S = 0.05  # PyTorch's threads go on waiting in a loop for a while after each call
PEER = "resnet50"
PEER_TITLE = "a bare forward pass of ResNet-50 in PyTorch"


def speed_figures(checkpoint: Checkpoint, *, rounds: int = 9) -> dict[str, Any]:
    """Time of answer and heat map for one photo of 4 : 3, as a ratio to the peer's.

    Returns:
        `ratio`, its range `low` to `high` (middle half of the rounds), `rounds`, and `peer`.
    """
    peer_entry = get_backbone(PEER)
    peer = build_classifier(peer_entry).eval()
    ours_side, peer_side = checkpoint.backbone.input_size_px, peer_entry.input_size_px
    ours_x = torch.randn(1, 3, ours_side, ours_side * 4 // 3)
    peer_x = torch.randn(1, 3, peer_side, peer_side * 4 // 3)

    def bare() -> None:
        with torch.no_grad():
            peer(peer_x)

    engine = Engine(checkpoint, "cpu")  # as the peer

    def ours() -> None:
        engine.answer(ours_x)

    ratios = [seconds_awake(ours) / seconds_awake(bare) for _ in range(rounds)]
    low, ratio, high = np.percentile(ratios, [25, 50, 75])
    return {
        "ratio": round(float(ratio), 3),
        "low": round(float(low), 3),
        "high": round(float(high), 3),
        "rounds": rounds,
        "peer": PEER_TITLE,
    }


def seconds_awake(work: Callable[[], object]) -> float:
    """Time of `work` in seconds, once others have settled and a first call woke its threads."""
    time.sleep(SETTLE_S)
    work()  # wakes its threads, as the photo before would have
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
