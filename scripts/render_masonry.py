"""Renders close-ups of masonry, sound and damaged, to train on where photos of them are missing.

    python scripts/render_masonry.py OUT [--walls 50]
    python -m heritage train DATA --rendered OUT …

In most collections what is seen from close by is damaged and what is sound is a whole building, so
that a network takes rough stone for damage. Here each wall is drawn (by `make_samples.py`: a height
map and a colour map from noise, lit with cast shadows, no picture used as a texture) without damage
and again with stepped cracks, cracks through the bricks, spalling, and efflorescence (the terms of
ICOMOS-ISCS 2008, Illustrated glossary on stone deterioration patterns). Of each come crops of any
scale: whole walls down to a piece of one brick. A crop of a damaged wall that shows none of the
damage is a sound one, and one that barely shows it is left out.

Writes JPEGs and `manifest.csv`; every fifth wall is for validation. About half a minute a wall and
core. Everything is seeded; walls that are there already are kept.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from make_samples import (
    BRICKS,
    H,
    W,
    Wall,
    X,
    Y,
    blur,
    brick_wall,
    crack,
    distance_to,
    light,
    linear,
    mix,
    noise,
    sample,
    step,
)
from PIL import Image

FIRST_SEED = 1000  # of the walls, away from those of the samples
SOUND_CROPS, DAMAGED_CROPS, UNTOUCHED_CROPS = 16, 4, 2  # of a wall, and of each kind of damage
SHORT_PX = (70, 700)  # short side of a crop on the wall, 1.25 pixels to the millimetre
SAVED_PX = (90, 256)  # and of the picture, at most
SHOWS_FROM = 0.3  # of the full depth of a crack
LEAST_SHARE = 0.012  # of the crop that damage covers
VALIDATION_EVERY = 5


def stepped(wall: Wall, seed: int) -> tuple[Wall, np.ndarray]:
    """The wall with a stepped crack down its joints, and where that shows, (H, W) in [0, 1]."""
    cracked, where = crack(wall, seed)
    return cracked, (where > SHOWS_FROM).astype(np.float32)


def through(wall: Wall, seed: int) -> tuple[Wall, np.ndarray]:
    """The wall with cracks of any direction, through bricks and joints."""
    rng = np.random.default_rng([seed, 3])
    lines = []
    for _ in range(int(rng.integers(3, 9))):
        point, heading = rng.uniform(0, 1, 2) * (W, H), rng.uniform(0, 2 * np.pi)
        points = [point]
        for _ in range(int(rng.integers(12, 60))):
            heading += rng.normal(0, 0.28)
            point = point + rng.uniform(8, 22) * np.array([np.cos(heading), np.sin(heading)])
            points.append(point)
        lines.append(np.array(points))
    wx, wy = (c + 2.2 * noise(rng, 50, 3, 0.7) for c in (X, Y))
    uneven, crumbs, grit = (noise(rng, *p) for p in ((120, 10, 0.6), (22, 3, 0.5), (9, 2, 0.4)))
    distance = sample(distance_to(lines), wx, wy)
    width = rng.uniform(1.5, 6.5) * (1 + 0.35 * uneven + 0.15 * crumbs)
    gap = step(width - distance, -0.8, 1.2)
    chipped = step(width + 5 * (crumbs + 0.7 * uneven - 0.7) - distance, 0, 3)
    height = wall.height - 30 * gap - (3.5 + crumbs + grit) * chipped
    fresh = mix(linear(176, 104, 74), linear(150, 82, 58), step(crumbs, -1, 1))
    colour = mix(wall.colour, fresh * np.exp(0.12 * grit)[..., None], 0.6 * chipped)
    colour = mix(colour, linear(34, 28, 25), rng.uniform(0.7, 0.9) * gap)
    return _changed(wall, height, colour), (distance < width + 1).astype(np.float32)


def spalled(wall: Wall, seed: int) -> tuple[Wall, np.ndarray]:
    """The wall with the faces of some bricks scaled off: set back, rough and fresh."""
    rng = np.random.default_rng([seed, 1])
    noise(rng, 260, 60, 0.9)
    mid, crumbs, grit = (noise(rng, *p) for p in ((90, 5, 1.0), (22, 3, 0.5), (9, 2, 0.4)))
    blob = np.full((H, W), -9.0, np.float32)
    for _ in range(int(rng.integers(8, 22))):
        cx, cy, radius = rng.uniform(0, W), rng.uniform(0, H), rng.uniform(25, 110)
        long = rng.uniform(0.8, 2.0)
        blob = np.maximum(blob, 1 - np.hypot((X - cx) / (radius * long), (Y - cy) / radius))
    depth = blob * 2 + 0.35 * mid + 0.12 * crumbs
    gone = step(depth, -0.05, 0.05 + rng.uniform(0, 0.1)) * np.clip(wall.brick + 0.3, 0, 1)
    deep = rng.uniform(5, 18)
    below = deep * step(depth, 0, 0.8) + 4 + 1.6 * crumbs + 0.9 * grit + 1.5 * mid
    one, other = (
        ((176, 104, 74), (150, 82, 58)),
        ((188, 132, 96), (160, 100, 74)),
        ((150, 110, 92), (120, 84, 70)),
    )[rng.choice(3)]
    fresh = mix(linear(*one), linear(*other), step(crumbs + 0.5 * mid, -1, 1))
    fresh = fresh * np.exp(0.14 * grit + 0.08 * mid)[..., None]
    colour = mix(wall.colour, fresh, rng.uniform(0.5, 0.95) * gone)
    return _changed(wall, wall.height - gone * below, colour), gone


def bloomed(wall: Wall, seed: int) -> tuple[Wall, np.ndarray]:
    """The wall with efflorescence: salts that whiten it in patches."""
    rng = np.random.default_rng([seed, 2])
    powder, patches, fine = (noise(rng, *p) for p in ((90, 2, 0.8), (300, 30, 0.8), (14, 2, 0.3)))
    spread = 0.9 * patches + 0.55 * powder + 0.2 * fine
    where = step(spread, rng.uniform(0.3, 0.9), rng.uniform(1.5, 2.2))
    salt = where * rng.uniform(0.6, 0.95)
    colour = mix(wall.colour, linear(226, 222, 212), salt)
    return _changed(wall, wall.height + 0.8 * salt * fine, colour), where


DAMAGE = {"cracked": stepped, "through": through, "spall": spalled, "bloom": bloomed}


def _changed(wall: Wall, height: np.ndarray, colour: np.ndarray) -> Wall:
    return wall._replace(height=height.astype(np.float32), colour=colour.astype(np.float32))


def develop(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photo of the lit wall (H, W, 3) in [0, 1]: exposure, white balance, lens, tone curve."""
    image = scene * (0.25 / np.median(scene.mean(2)))
    image = image * np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.07, 3)).astype(np.float32)
    image = np.maximum(blur(image, rng.uniform(0.5, 1.5)), 0)
    image = image * (1 + image / 2.2) / (1 + image)
    srgb = np.clip(1.055 * image ** (1 / 2.4) - 0.055, 0, 1)
    return srgb + 0.16 * (step(srgb, 0, 1) - srgb)


def crops(
    image: np.ndarray, damage: np.ndarray, rng: np.random.Generator, count: int, damaged: bool
) -> Iterator[tuple[Image.Image, int]]:
    """Up to `count` crops that show damage, or none of it, each with a quality for its JPEG."""
    made = 0
    for _ in range(count * 25):
        if made == count:
            return
        short = int(np.exp(rng.uniform(*np.log(SHORT_PX))))
        height, width = short, int(short * np.exp(rng.uniform(0, np.log(3.2))))
        if rng.random() < 0.25:
            height, width = width, height
        if height > H or width > W:
            continue
        top, left = rng.integers(0, H - height + 1), rng.integers(0, W - width + 1)
        there = (slice(top, top + height), slice(left, left + width))
        seen = damage[there]
        if damaged and (seen.mean() < LEAST_SHARE or seen.max() < 0.7):
            continue
        if not damaged and seen.max() > 0.15:
            continue
        view, small = image[there], int(np.exp(rng.uniform(*np.log(SAVED_PX))))
        if short > small:
            size = [max(8, round(side * small / short)) for side in (width, height)]
            view = cv2.resize(view, size, interpolation=cv2.INTER_AREA)
        view = view + rng.normal(0, rng.uniform(0, 0.02), view.shape)
        pixels = (np.clip(view, 0, 1) * 255 + 0.5).astype(np.uint8)
        yield Image.fromarray(pixels), int(rng.integers(70, 95))
        made += 1


def render(number: int, out: Path) -> None:
    """Draws wall `number` as it is and with each kind of damage, and saves crops of them."""
    rng = np.random.default_rng([number, 77])
    bricks = BRICKS * np.exp(rng.normal(0, 0.3)) * np.exp(rng.normal(0, 0.18, 3))
    bricks = np.clip(bricks, 0.02, 0.8).astype(np.float32)
    if rng.random() < 0.3:  # grey or buff stone
        grey = bricks.mean(1, keepdims=True) * np.array([1.05, 1.0, 0.92])
        bricks = (bricks * 0.3 + 0.7 * grey).astype(np.float32)
    rough, soot = rng.uniform(0.5, 2.2), rng.uniform(0, 1.6)
    wall = brick_wall(FIRST_SEED + number, rough=rough, soot=soot, bricks=bricks)
    folder = out / f".wall-{number:03}"  # until it is whole
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def save(kind: str, image: np.ndarray, damage: np.ndarray, count: int, damaged: bool) -> None:
        label = "damaged" if damaged else "sound"
        for index, (crop, quality) in enumerate(crops(image, damage, rng, count, damaged)):
            crop.save(folder / f"{label}-{kind}-{index}.jpg", quality=quality)

    save("wall", develop(light(wall), rng), np.zeros((H, W)), SOUND_CROPS, False)
    for kind, damage_of in DAMAGE.items():
        damaged, where = damage_of(wall, number)
        image = develop(light(damaged), rng)
        save(kind, image, where, DAMAGED_CROPS, True)
        save(kind, image, where, UNTOUCHED_CROPS, False)
    folder.rename(wall_folder(number, out))


def wall_folder(number: int, out: Path) -> Path:
    """Where the pictures of a wall lie, all of them or none."""
    return out / f"wall-{number:03}"


def write_manifest(out: Path) -> None:
    """Lists what lies in `out`: label, split and wall of each picture."""
    with (out / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split", "source", "group"))
        for path in sorted(out.glob("wall-*/*.jpg")):
            wall = path.parent.name
            held = int(wall.removeprefix("wall-")) % VALIDATION_EVERY == 0
            split = "validation" if held else "train"
            label = path.name.split("-")[0]
            writer.writerow((f"{wall}/{path.name}", label, split, "rendered", wall))


def main() -> None:
    """Draws what is missing and writes the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--walls", type=int, default=50)
    given = parser.parse_args()
    for number in range(given.walls):
        if not wall_folder(number, given.out).exists():
            render(number, given.out)
            print(f"wall {number + 1} of {given.walls}", file=sys.stderr, flush=True)
    write_manifest(given.out)


if __name__ == "__main__":
    main()
