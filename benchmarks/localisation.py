"""Do heat maps find the crack? Scored with masks, for every method and the detail scan.

    python -m benchmarks.localisation DATA [--backbone mobilenet_v2] [--update-cards]
    python -m benchmarks.localisation DATA --choose      # the hot threshold, into the cards

DATA holds `localisation/manifest.csv` with the columns `path, mask, use`. Thresholds are chosen on
photos of use `tune`, figures are of use `score`. Beside these stand large photos, made here:
sound facades of 6 megapixels, on each one crack, lifted from a masked photo of the same use, a few
pixels wide.

Pointing game: share of photos whose hottest place lies on the crack (Zhang et al. 2018,
arXiv:1608.00507, without tolerance). Energy: share of the heat that lies on it (Wang et al. 2020,
arXiv:1910.01279). IoU: overlap of crack and heat at the one threshold that is best on `tune`.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.special import expit, logit

from heritage.cards import list_cards, read_card, weights_dir
from heritage.checkpoints import check_writable, update_card
from heritage.figures import localisation_tables
from heritage.inspection import Inspection, Inspector
from heritage.methods import METHODS
from heritage.photos import Photo, open_photo
from heritage.training.evaluation import bootstrap_interval

LARGE_PX = (2880, 2160)
LARGE_PHOTOS = 30
GRAIN = 5.0  # standard deviation of the fine texture, in grey values
THRESHOLDS = np.round(np.arange(0.02, 1.0, 0.02), 2)
SCAN = "Detail scan"


@dataclass(frozen=True)
class Masked:
    """A photo and its crack (H, W) bool."""

    photo: Photo
    crack: np.ndarray


@dataclass(frozen=True)
class Scores:
    """Per photo: hit (N,), energy (N,), IoU at each of `THRESHOLDS` (N, T), and seconds (N,)."""

    hit: np.ndarray
    energy: np.ndarray
    overlap: np.ndarray
    seconds: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", action="append", help="by default each with a head")
    parser.add_argument("--choose", action="store_true", help="write the threshold into the card")
    parser.add_argument("--update-cards", action="store_true", help="write the figures into it")
    given = parser.parse_args()
    names = given.backbone or [card.name for card in list_cards() if card.pointing]
    if given.choose or given.update_cards:
        check_writable(weights_dir())
    for name in names:
        if given.choose:
            choose(name, given.data)
        else:
            compare(name, given.data, given.update_cards)


def choose(name: str, data: Path) -> None:
    """Writes the threshold that is best on `tune` into the card, the scan's hot threshold."""
    card = read_card(weights_dir() / f"{name}.json")
    if not card.pointing:
        print(f"{name}: it has no head that points")
        return
    inspector = Inspector(name)

    def as_pointed(photo: Photo) -> Inspection:
        """The scan with the heat as the head gives it, the card's threshold taken out again."""
        found = inspector.scan(photo)
        heat = expit(logit(found.grid) + logit(card.pointing["hot"]))
        return replace(found, grid=heat.astype(np.float32))

    scores = score(masked(data, "tune"), {SCAN: as_pointed})[SCAN]
    best = float(THRESHOLDS[scores.overlap.mean(0).argmax()])
    print(f"{name}: hot from {best:.2f}")
    update_card(replace(card, pointing={**card.pointing, "hot": best}), ["pointing"], weights_dir())


def compare(name: str, data: Path, update: bool) -> None:
    """Prints one table, and writes it into the card if asked to."""
    inspector = Inspector(name)
    found: dict[str, Any] = {}
    for title, make in (("masonry cracks", masked), ("large photos, made", large)):
        tune, held = list(make(data, "tune")), list(make(data, "score"))
        chance = float(np.mean([item.crack.mean() for item in held]))
        found[title] = {"n": len(held), "chance": round(chance, 5), "methods": {}}
        heat_of = methods(inspector)
        tuned = score(tune, heat_of)
        for method, scores in score(held, heat_of).items():
            best = int(tuned[method].overlap.mean(0).argmax())
            found[title]["methods"][method] = {
                "pointing_game": bootstrap_interval(scores.hit),
                "energy": bootstrap_interval(scores.energy),
                "iou": bootstrap_interval(scores.overlap[:, best]),
                "threshold": float(THRESHOLDS[best]),
                "seconds_a_photo": round(float(np.median(scores.seconds)), 4),
            }
    card = replace(inspector.card, localisation=found)
    print(localisation_tables([card]))
    for title, figures in found.items():
        for method, told in figures["methods"].items():
            print(f"{title}, {method}: {told['seconds_a_photo']:.4f} s a photo", flush=True)
    if update:
        update_card(card, ["localisation"], weights_dir())


def methods(inspector: Inspector) -> dict[str, Callable[[Photo], Inspection]]:
    """Title and function of everything that is compared."""
    found: dict[str, Callable[[Photo], Inspection]] = {
        title: lambda photo, method=method: inspector.inspect(photo, method)
        for method, title in METHODS.items()
    }
    return found | {SCAN: inspector.scan}


def score(
    items: Iterable[Masked], heat_of: dict[str, Callable[[Photo], Inspection]]
) -> dict[str, Scores]:
    """Scores of each method; photo by photo in turn, so that all see the same machine."""
    found: dict[str, list[tuple[Any, ...]]] = {name: [] for name in heat_of}
    for item in items:
        for name, inspect in heat_of.items():
            started = time.perf_counter()
            inspection = inspect(item.photo)
            seconds = time.perf_counter() - started
            heat = inspection.heatmap
            hit = float(item.crack.flat[heat.argmax()])
            energy = float(heat[item.crack].sum() / max(heat.sum(), 1e-9))
            inside, above = at_or_above(heat[item.crack]), at_or_above(heat)
            overlap = inside / (above + item.crack.sum() - inside)
            found[name].append((hit, energy, overlap, seconds))
    return {
        name: Scores(*map(np.array, zip(*figures, strict=True))) for name, figures in found.items()
    }


def at_or_above(heat: np.ndarray) -> np.ndarray:
    """How many values are at or above each of `THRESHOLDS` (T,)."""
    return np.histogram(heat, [*THRESHOLDS, 2])[0][::-1].cumsum()[::-1]


def masked(data: Path, use: str) -> Iterator[Masked]:
    """The photos with masks of one use."""
    for row in rows(data / "localisation" / "manifest.csv"):
        if row["use"] == use:
            yield Masked(open_photo(data / row["path"]), _mask(data / row["mask"]))


def large(data: Path, use: str) -> Iterator[Masked]:
    """Large sound facades with one crack each; of `score` from the split test, else validation."""
    rng = np.random.default_rng({"tune": 0, "score": 1}[use])
    split = "test" if use == "score" else "validation"
    sound = [
        row
        for row in rows(data / "manifest.csv")
        if row["split"] == split and row["label"] == "sound"
    ]
    facades = [row for row in sound if "facade" in row["source"]]
    grounds = [row for row in sound if row["kind"] == "surface"]
    cracks = list(masked(data, use))
    for number in range(LARGE_PHOTOS):
        facade = _pixels(data / facades[rng.integers(len(facades))]["path"])
        grain = _pixels(data / grounds[rng.integers(len(grounds))]["path"])
        crack = cracks[rng.integers(len(cracks))]
        pixels, mask = with_crack(with_grain(facade, grain), crack, rng)
        yield Masked(_photo(pixels, f"{use}{number}"), mask)


def with_grain(facade: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """A small facade at `LARGE_PX`, with the fine texture of a sound wall, RGB float32."""
    wide = Image.fromarray(facade).resize(LARGE_PX, Image.Resampling.BICUBIC)
    fine = grain.mean(2) - ndimage.gaussian_filter(grain.mean(2), 2)
    fine = (GRAIN * fine / max(fine.std(), 1)).clip(-2 * GRAIN, 2 * GRAIN)
    width, height = LARGE_PX
    pads = ((0, height), (0, width))
    tiled = np.pad(fine, pads, mode="symmetric")[:height, :width]
    return np.asarray(wide, np.float32) + tiled[..., None]


def with_crack(
    ground: np.ndarray, crack: Masked, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lays a crack, as dark against its own wall as it was, somewhere on a wall."""
    pixels = crack.photo.pixels().astype(np.float32) + 1
    height, width = crack.crack.shape
    near = ndimage.binary_dilation(crack.crack, iterations=2)
    wall = pixels * ~near[..., None]
    known = ndimage.gaussian_filter((~near).astype(np.float32), 8)
    around = np.stack([ndimage.gaussian_filter(wall[..., c], 8) for c in range(3)], 2)
    darker = np.clip(pixels / (around / known[..., None].clip(1e-3) + 1), 0.02, 1.5)
    soft = ndimage.gaussian_filter(near.astype(np.float32), 1)[..., None]
    top = rng.integers(0, ground.shape[0] - height + 1)
    left = rng.integers(0, ground.shape[1] - width + 1)
    there = (slice(top, top + height), slice(left, left + width))
    made = ground.copy()
    made[there] *= 1 + soft * (darker - 1)
    mask = np.zeros(ground.shape[:2], bool)
    mask[there] = crack.crack
    return made.clip(0, 255).astype(np.uint8), mask


def rows(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _mask(path: Path) -> np.ndarray:
    with Image.open(path) as im:
        return np.asarray(im.convert("L")) > 127


def _pixels(path: Path) -> np.ndarray:
    return open_photo(path).pixels()


def _photo(pixels: np.ndarray, name: str) -> Photo:
    from heritage.exports import encode_jpeg

    return open_photo(encode_jpeg(pixels, quality=95), f"{name}.jpg")  # as a camera writes it


if __name__ == "__main__":
    main()
