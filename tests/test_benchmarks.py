"""Benchmarks that are cut short spoil nothing, and none compares what cannot be compared."""

import csv

import numpy as np
import pytest
import torch
from helpers import crack_photo, save_untrained, wall

from benchmarks import heat_maps, localisation, scale
from heritage.backbones import BACKBONES, get_backbone
from heritage.cards import read_card
from heritage.checkpoints import load_checkpoint, save_pointer
from heritage.exports import encode_png
from heritage.inspection import Inspector
from heritage.pointing import PointingHead, tap_points

HOT = 0.3


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder with an untrained checkpoint whose head that points answers from `HOT` on."""
    folder = tmp_path / "weights"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_untrained(folder, auroc=0.5)
        checkpoint = load_checkpoint("mobilenet_v2", folder)
        depths = tap_points(checkpoint.model.features, get_backbone("mobilenet_v2"))[1]
        head = PointingHead(depths).eval()
    save_pointer(checkpoint.card, head, {"hot": HOT, "command": "a test"}, folder)
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def data(tmp_path):
    """Two photos with masks for each use, and the sound photos that large ones are made of."""
    folder = tmp_path / "data"
    masked = []
    for use in ("tune", "score"):
        for seed in range(2):
            name = f"localisation/{use}{seed}"
            crack_photo(folder / f"{name}.jpg", seed=seed)
            mask = wall(True, seed=seed).mean(2) < 60
            (folder / f"{name}.png").write_bytes(encode_png(np.uint8(255 * mask)))
            masked.append({"path": f"{name}.jpg", "mask": f"{name}.png", "use": use})
    write_csv(folder / "localisation" / "manifest.csv", masked)
    sound = []
    for split in ("validation", "test"):
        for kind, source in (("facade", "a facade"), ("surface", "a wall")):
            crack_photo(folder / split / f"{kind}.jpg", cracked=False)
            row = {"path": f"{split}/{kind}.jpg", "split": split, "label": "sound"}
            sound.append(row | {"kind": kind, "source": source})
    write_csv(folder / "manifest.csv", sound)
    return folder


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_choosing_the_hot_threshold_that_breaks_off_leaves_the_card_as_it_was(weights, tmp_path):
    before = (weights / "mobilenet_v2.json").read_bytes()
    with pytest.raises(FileNotFoundError):
        localisation.choose("mobilenet_v2", tmp_path / "nowhere")
    assert (weights / "mobilenet_v2.json").read_bytes() == before


def test_the_hot_threshold_that_is_chosen_is_the_best_whatever_the_card_said(weights, data):
    localisation.choose("mobilenet_v2", data)
    card = read_card(weights / "mobilenet_v2.json")
    first = card.pointing["hot"]
    assert card.pointing["command"] == "a test"
    localisation.choose("mobilenet_v2", data)
    assert read_card(weights / "mobilenet_v2.json").pointing["hot"] == first
    # At the chosen value the scan's own heat turns hot, and no other would overlap better.
    scores = localisation.score(
        localisation.masked(data, "tune"), {"scan": Inspector("mobilenet_v2").scan}
    )["scan"]
    at_hot = scores.overlap.mean(0)[list(localisation.THRESHOLDS).index(0.5)]
    assert at_hot == pytest.approx(scores.overlap.mean(0).max(), abs=0.02)


def test_methods_are_timed_in_turn_photo_by_photo(weights, data):
    inspector, asked = Inspector("mobilenet_v2"), []

    def method(name):
        def inspect(photo):
            asked.append((photo.name, name))
            return inspector.inspect(photo)

        return inspect

    photos = list(localisation.masked(data, "score"))
    found = localisation.score(photos, {name: method(name) for name in ("one", "other")})
    assert asked == [(item.photo.name, name) for item in photos for name in ("one", "other")]
    assert all(scores.seconds.shape == scores.hit.shape == (2,) for scores in found.values())
    assert np.array_equal(found["one"].overlap, found["other"].overlap)


def test_large_photos_come_as_a_camera_writes_them(data):
    made = next(localisation.large(data, "tune"))
    assert made.photo.format == "JPEG"
    assert (made.photo.width, made.photo.height) == localisation.LARGE_PX
    assert made.crack.any()


def test_the_backbone_that_only_a_large_machine_can_time_is_timed_where_it_is_named():
    told = {backbone.name for backbone in heat_maps.chosen(None)}
    assert told == set(BACKBONES) - {"cascade", "efficientnet_b7"}
    named = heat_maps.chosen(["efficientnet_b7", "alexnet"])
    assert {backbone.name for backbone in named} == {"efficientnet_b7", "alexnet"}


@pytest.mark.parametrize("photos", [0, scale.FEW, 2 * scale.FEW])
def test_a_cost_that_so_few_photos_cannot_tell_is_refused(photos, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["scale", "cost", f"--photos={photos}"])
    with pytest.raises(SystemExit):
        scale.main()
    assert f"give more than {2 * scale.FEW}" in capsys.readouterr().err
