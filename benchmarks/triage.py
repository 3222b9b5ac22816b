"""Triage of many 12-MP JPEGs with heat maps and CSV, against the scripts one would write.

    python benchmarks/triage.py [--photos 500] [--backbone mobilenet_v3_large] [--peers 60]

The peers are given fewer photos, as they take their time; ratios are of seconds per photo. Scaled
decoding alone, on all cores, is what bounds ours. All run on the CPU, whatever else there is.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before PyTorch looks: the peers are given no GPU

import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from torch.utils.data import DataLoader, Dataset
from torchcam.methods import GradCAM as TorchCAM
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from heritage.cards import read_card, weights_dir
from heritage.checkpoints import load_checkpoint
from heritage.handover import Handover
from heritage.photos import open_photo
from heritage.sources import list_folder
from heritage.surveys import SurveyStore
from heritage.triage import share_cores, threads, triage

SIZE_PX = (4000, 3000)
HEADER = ("photo", "damage_percent", "affected_percent")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--peers", type=int, default=60, help="photos that the peers get")
    parser.add_argument("--backbone", default="mobilenet_v3_large")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        files = make_photos(folder, given.photos)
        some = files[: given.peers]
        print(f"{len(files)} photos of 12 MP, {given.backbone}, {os.cpu_count()} cores, no GPU\n")
        print("| what | photos | photos/s | times ours |")
        print("|---|--:|--:|--:|")
        own = table_row("Heritage, heat maps and CSV", files, lambda: ours(folder, given.backbone))
        share = torch.get_num_threads()
        torch.set_num_threads(os.cpu_count() or 1)
        decoding = table_row("scaled decoding alone, all cores", files, lambda: decode(files), own)
        table_row(
            "plain script: PIL, torchvision, pytorch-grad-cam, one by one",
            some,
            lambda: plain(some, given.backbone),
            own,
        )
        table_row(
            "TorchCAM, batches of 16, DataLoader",
            some,
            lambda: batched(some, given.backbone),
            own,
        )
        torch.set_num_threads(share)
        print(f"\nOurs takes {own / decoding:.2f} × the time of scaled decoding alone.")


def make_photos(folder: Path, count: int) -> list[Path]:
    """Masonry-like noise of many scales, as heavy to decode as photos are (about 3 MB each)."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    files = []
    for index in range(count):
        if index < 24:
            picture = np.zeros((SIZE_PX[1], SIZE_PX[0], 3), np.float32)
            for cells in (8, 40, 200, 1000):
                layer = rng.normal(0, 22, (cells * 3 // 4, cells, 3)).clip(-60, 60) + 64
                scaled = Image.fromarray(layer.astype(np.uint8)).resize(SIZE_PX, Image.BILINEAR)
                picture += np.asarray(scaled, np.float32) - 32
            picture += rng.normal(0, 5, (*picture.shape[:2], 1))
            data = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
            data.save(folder / f"{index:04d}.jpg", quality=90)
        else:  # other bytes, as the same ones would be inspected once
            first = (folder / f"{index % 24:04d}.jpg").read_bytes()
            (folder / f"{index:04d}.jpg").write_bytes(first + str(index).encode())
        files.append(folder / f"{index:04d}.jpg")
    return files


def table_row(
    name: str, files: list[Path], work: Callable[[], None], own: float | None = None
) -> float:
    """Prints one line; returns seconds per photo."""
    started = time.perf_counter()
    work()
    seconds = (time.perf_counter() - started) / len(files)
    ratio = f"{seconds / own:.2f}" if own else "1"
    print(f"| {name} | {len(files)} | {1 / seconds:.1f} | {ratio} |", flush=True)
    return seconds


def ours(folder: Path, name: str) -> None:
    """What `python -m heritage triage` does, start of Python left out for all."""
    share_cores()
    with tempfile.TemporaryDirectory() as home:
        store = SurveyStore(Path(home))
        survey = store.create_survey("bench")
        store.add_photos(survey.id, list_folder(folder).sources)
        run = store.create_run(survey.id, read_card(weights_dir() / f"{name}.json"))
        triage(store, run.id, keep=False)
        (Path(home) / "out.csv").write_bytes(Handover.of(store, run.id).csv())
        store.close()


def decode(files: list[Path]) -> None:
    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(lambda file: open_photo(file).pixels(short_side_px=448), files))


def transforms(name: str) -> v2.Compose:
    backbone = load_checkpoint(name).backbone
    return v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(backbone.input_size_px, antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(backbone.mean, backbone.std),
        ]
    )


def plain(files: list[Path], name: str) -> None:
    """As the README of pytorch-grad-cam has it, photo by photo."""
    model = load_checkpoint(name).model.requires_grad_(True)
    prepare = transforms(name)
    rows = []
    with GradCAM(model=model, target_layers=[model.features]) as cam:
        for file in files:
            x = prepare(Image.open(file).convert("RGB"))[None]
            heat = cam(input_tensor=x, targets=[lambda output: output[0]])[0]
            with torch.no_grad():
                percent = 100 * model(x).sigmoid().item()
            rows.append((file.name, percent, 100 * (heat >= 0.5).mean()))
    write(rows)


class Files(Dataset):
    def __init__(self, files: list[Path], name: str) -> None:
        self.files, self.prepare = files, transforms(name)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.prepare(Image.open(self.files[index]).convert("RGB"))


def batched(files: list[Path], name: str) -> None:
    """TorchCAM with what one would do to be quick: batches, and processes that decode."""
    model = load_checkpoint(name).model.requires_grad_(True)
    rows = []
    loader = DataLoader(Files(files, name), batch_size=16, num_workers=os.cpu_count() or 1)
    with TorchCAM(model, target_layer=model.features) as cam:
        start = 0
        for x in loader:
            logits = model(x)
            heats = cam(0, logits)[0]
            heats = torch.nn.functional.interpolate(heats[:, None], x.shape[-2:], mode="bilinear")
            for place, (logit, heat) in enumerate(zip(logits, heats[:, 0], strict=True)):
                file = files[start + place]
                affected = 100 * (heat >= 0.5).float().mean().item()
                rows.append((file.name, 100 * logit.sigmoid().item(), affected))
            start += len(x)
    write(rows)


def write(rows: list[tuple[str, float, float]]) -> None:
    with tempfile.TemporaryFile("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
