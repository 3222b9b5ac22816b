"""Trains the checkpoints of `weights/` that are not there yet, one after the other.

    python scripts/train_weights.py DATA --unlabelled FOLDER --imagenet FILE [--only NAME …]

Takes days on two cores, an hour or two on a GPU. It can be stopped at any time: finished
checkpoints stay, and the one in progress goes on where it was. Recipes are chosen on validation.
A card tells the command that made its checkpoint: the mobilenet_v3_large of version 0.2 went on
from that of 0.1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from heritage.cards import weights_dir  # noqa: E402
from heritage.cli import main as heritage  # noqa: E402

SHIPPED = "the training photos are named in weights/README.md and are not shipped"
FROM_IMAGENET = (
    "Apache-2.0; started from the ImageNet weights of google-coral/test_data (Apache-2.0, "
    f"dequantised); {SHIPPED}"
)
FROM_NOTHING = (
    f"Apache-2.0; started from nothing and learned from mobilenet_v2 as teacher; {SHIPPED}"
)
CROPS = "--smallest-crop 0.35 --smallest-crop-sound 0.15"
STUDENT = f"--init scratch --teacher mobilenet_v2 --teacher-share 0.7 --feature-share 2 {CROPS}"
FIRST_TEACHER = "--epochs 8 --learning-rate 2e-4 --head-rate-factor 5 --patience 10"
SECOND = (
    f"--epochs 8 --learning-rate 3e-4 --head-rate-factor 5 --patience 10 {CROPS} "
    "--crop-side-px 160 --full-size-epochs 2 --teacher first --teacher-share 0.6 "
    "--feature-share 0.5"
)
QUICK = "--epochs 14 --patience 14 --learning-rate 1e-3 --head-rate-factor 1 --crop-side-px 128"
# VGG16 costs most of all: gently, and on the smallest crops.
GENTLY = "--epochs 5 --patience 6 --learning-rate 3e-4 --head-rate-factor 1 --full-size-epochs 2"
LARGE = "--epochs 6 --patience 6 --learning-rate 1e-3 --head-rate-factor 1 --full-size-epochs 1"

# What features of ImageNet say of damage. Its features know no label, and only these are taught to
# the stage 1 of each fold of the cascade, which would else know photos of its fold at second hand.
PROBE = "--frozen-blocks 19 --epochs 3 --learning-rate 2e-4 --crop-side-px 128"
FOLDS = (
    "--init scratch --teacher probe --teacher-share 0 --feature-share 2 --epochs 8 --patience 8 "
    f"--learning-rate 1e-3 --head-rate-factor 1 --crop-side-px 128 --full-size-epochs 1 {CROPS}"
)

# Nobody has waited for these on a CPU yet: only where they are asked for by --only. EfficientNet-B7
# is over 50 MB in int8 too, and to be measured, not shipped.
ON_A_GPU: dict[str, tuple[str, bool]] = {
    "mobilenet_v3_small": (f"{STUDENT} {QUICK} --full-size-epochs 2", True),
    "efficientnet_b2": (f"{STUDENT} {QUICK} --full-size-epochs 1", True),
    "resnet50": (f"{STUDENT} {QUICK} --full-size-epochs 1", True),
    "resnet101": (f"{STUDENT} {QUICK} --full-size-epochs 1", True),
    "efficientnet_b7": (f"{STUDENT} {LARGE} --crop-side-px 224 --full-size-px 320", True),
}

# name: options, whether photos without labels are used. Smaller crops where a photo costs much;
# int8 where float16 would make the folder too heavy.
RECIPES: dict[str, tuple[str, bool]] = {
    "first": (f"--backbone mobilenet_v2 --frozen-blocks 4 {FIRST_TEACHER}", False),
    "mobilenet_v2": (f"--backbone mobilenet_v2 --frozen-blocks 4 {SECOND}", True),
    "mobilenet_v3_large": (f"{STUDENT} {QUICK} --full-size-epochs 2", True),
    "resnet18": (f"{STUDENT} {QUICK} --full-size-epochs 1", True),
    "alexnet": (f"{STUDENT} {QUICK} --full-size-epochs 2", True),
    "googlenet": (f"{STUDENT} {QUICK} --full-size-epochs 1", True),
    "efficientnet_b0": (f"{STUDENT} {QUICK} --full-size-epochs 1", True),
    "probe": (f"--backbone mobilenet_v2 {PROBE}", False),
    "cascade": (FOLDS, True),
    "inception_v3": (f"{STUDENT} {LARGE} --crop-side-px 128 --full-size-px 192", True),
    "xception": (f"{STUDENT} {LARGE} --crop-side-px 96 --full-size-px 160", True),
    "vgg16": (f"{STUDENT} {GENTLY} --crop-side-px 64 --full-size-px 112", True),
}
INT8 = {"cascade", "inception_v3", "xception", "vgg16", "resnet50", "resnet101", "efficientnet_b7"}


def main() -> int:
    """Returns 0, or the status of the first run that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--unlabelled", type=Path, required=True)
    parser.add_argument("--imagenet", type=Path, required=True, help="MobileNetV2's start")
    parser.add_argument("--out", type=Path, default=weights_dir())
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--only", nargs="*", choices=[*RECIPES, *ON_A_GPU])
    given = parser.parse_args()
    for name in given.only or RECIPES:
        if (given.out / f"{name}.safetensors").exists():
            continue
        options, with_unlabelled = (RECIPES | ON_A_GPU)[name]
        starts = "--backbone mobilenet_v2" in options
        command = ["train", str(given.data), "--out", str(given.out), "--name", name]
        command += ["--run", str(given.runs / name), *options.split()]
        if "--backbone" not in options:
            command += ["--backbone", name]
        if starts:
            command += ["--init", str(given.imagenet)]
        if with_unlabelled:
            command += ["--unlabelled", str(given.unlabelled)]
        if name == "cascade":
            command += ["--stage-two-init", str(given.out / "resnet18.safetensors")]
        if name in INT8:
            command += ["--precision", "int8"]
        command += ["--licence", FROM_IMAGENET if starts else FROM_NOTHING]
        print("python -m heritage", " ".join(command), flush=True)
        status = heritage(command)
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
