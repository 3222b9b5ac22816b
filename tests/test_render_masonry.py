"""What is drawn to train on carries the right label, and walls stay together."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heritage.training.datasets import TRAIN, VALIDATION, read_rendered

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import render_masonry  # noqa: E402


@pytest.fixture
def wall():
    """A grey wall whose damage is red, and where that is."""
    image = np.full((render_masonry.H, render_masonry.W, 3), 0.5)
    damage = np.zeros(image.shape[:2], np.float32)
    damage[400:900, 700:1000] = 1
    image[damage > 0] = (1, 0, 0)
    return image, damage


def red_share(crop):
    red, green, _ = np.asarray(crop).astype(int).transpose(2, 0, 1)
    return ((red - green) > 120).mean()


def test_a_damaged_crop_shows_damage_and_a_sound_one_none(wall):
    rng = np.random.default_rng(0)
    damaged = [crop for crop, _ in render_masonry.crops(*wall, rng, 12, True)]
    sound = [crop for crop, _ in render_masonry.crops(*wall, rng, 12, False)]
    assert len(damaged) == len(sound) == 12
    assert min(map(red_share, damaged)) > render_masonry.LEAST_SHARE / 2
    assert max(map(red_share, sound)) == 0
    assert max(min(crop.size) for crop in damaged + sound) <= render_masonry.SAVED_PX[1]
    assert min(min(crop.size) for crop in damaged + sound) >= 32, "or no photo could be so small"


def test_where_no_crop_fits_there_is_none(wall):
    image, damage = wall
    rng = np.random.default_rng(0)
    assert not list(render_masonry.crops(image, np.zeros_like(damage), rng, 3, True))
    assert not list(render_masonry.crops(image, np.ones_like(damage), rng, 3, False))


def test_the_manifest_keeps_a_wall_in_one_split(tmp_path):
    for number in range(render_masonry.VALIDATION_EVERY + 1):
        folder = tmp_path / f"wall-{number:03}"
        folder.mkdir()
        for label in ("sound", "damaged"):
            Image.new("RGB", (96, 64), "grey").save(folder / f"{label}-wall-0.jpg")
    render_masonry.write_manifest(tmp_path)
    rows = list(csv.DictReader((tmp_path / "manifest.csv").read_text().splitlines()))
    splits = {row["group"]: row["split"] for row in rows}
    assert {(row["group"], row["split"]) for row in rows} == set(splits.items())
    assert set(splits.values()) == {TRAIN, VALIDATION}
    samples = read_rendered(tmp_path)
    assert len(samples) == len(rows) and all(sample.rendered for sample in samples)
    assert {sample.label for sample in samples if sample.split == VALIDATION} == {0.0, 1.0}
