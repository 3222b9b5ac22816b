"""What several processes are refused, as JSON; `accelerate launch` starts this in each of them.

`refused_together.py DATA FOLDER` writes `FOLDER/INDEX.json`: what was tried and what was said.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from heritage.errors import TrainingError
from heritage.training.config import TrainingConfig
from heritage.training.datasets import read_samples, with_validation
from heritage.training.devices import joined
from heritage.training.fitting import fit
from heritage.training.run import train

QUICK = TrainingConfig(
    backbone="mobilenet_v3_small",
    init="scratch",
    epochs=1,
    batch_size=5,  # three photos for one process, two for the other
    crop_side_px=64,
    workers=0,
)


def main(data: Path, folder: Path) -> None:
    samples = with_validation(read_samples(data))
    said = {}
    with joined("cpu") as devices:
        rate = QUICK.learning_rate * (1 + devices.index)
        tried = {
            "cascade": lambda: train(
                replace(QUICK, backbone="cascade"), data, out=folder, devices=devices
            ),
            "small batch": lambda: fit(
                replace(QUICK, batch_size=3),
                samples,
                folder / "run",
                teacher_folder=folder,
                devices=devices,
            ),
            "other photos": lambda: fit(
                QUICK,
                samples[devices.index :],
                folder / "run",
                teacher_folder=folder,
                devices=devices,
            ),
            "other weights": lambda: fit(
                replace(QUICK, learning_rate=rate),
                samples,
                folder / "run",
                teacher_folder=folder,
                devices=devices,
            ),
            "nothing": lambda: fit(
                QUICK, samples, folder / "run", teacher_folder=folder, devices=devices
            ),
        }
        for name, attempt in tried.items():
            try:
                attempt()
                said[name] = ""
            except TrainingError as error:
                said[name] = str(error)
        (folder / f"{devices.index}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
