"""The two-stage model: what stage 2 is shown, and that it is shown nothing stage 1 knew."""

import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import crack_photo, labelled_folder, save_untrained

from heritage import Inspector
from heritage.backbones import get_backbone
from heritage.cards import read_card
from heritage.cascade import CascadeFeatures, jet, overlaid
from heritage.checkpoints import load_checkpoint, update_card
from heritage.classifiers import build_classifier, normalise
from heritage.errors import DatasetError, TrainingError
from heritage.exports import inspection_json
from heritage.training.cascade import OverlaidPhotos, epochs_in_all, paired_test
from heritage.training.config import EpochRecord, Step, TrainingConfig
from heritage.training.datasets import PhotoCache
from heritage.training.evaluation import Predictions
from heritage.training.run import train

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import compare_cascade

QUICK = TrainingConfig(
    backbone="cascade", init="scratch", epochs=1, crop_side_px=64, batch_size=8, workers=0,
    learning_rate=1e-3,
)  # fmt: skip


def grey(level, size=(1, 3, 64, 96)):
    return normalise(torch.full(size, level, dtype=torch.uint8), get_backbone("resnet18"))


def test_heat_is_coloured_from_blue_to_red():
    colours = jet(torch.tensor([[[0.0, 0.5, 1.0]]]))[0, :, 0].T.tolist()
    assert colours == [[0, 0, 0.5], [0.5, 1, 0.5], [0.5, 0, 0]]


def test_the_photo_shows_through_and_the_hot_place_is_red():
    maps = torch.zeros(1, 2, 3)
    maps[0, 0, 2] = 5
    x = grey(128)
    shown = overlaid(x, maps)
    backbone = get_backbone("resnet18")
    mean = torch.tensor(backbone.mean).view(3, 1, 1)
    std = torch.tensor(backbone.std).view(3, 1, 1)
    rgb = shown[0] * std + mean
    hot, cold = rgb[:, 0, -1], rgb[:, -1, 0]
    assert hot[0] > hot[2] and cold[2] > cold[0]
    assert hot.tolist() == pytest.approx([0.6 * 128 / 255 + 0.2, 0.3012, 0.3012], abs=1e-3)
    brighter = overlaid(grey(200), maps)
    assert (brighter > shown).all(), "where the photo is brighter, so is what stage 2 sees"


def test_a_photo_without_evidence_is_tinted_evenly():
    shown = overlaid(grey(128), torch.zeros(1, 2, 3))
    assert torch.isfinite(shown).all()
    torch.testing.assert_close(shown.amax((2, 3)), shown.amin((2, 3)))


def test_training_stage_two_leaves_stage_one_as_it_was():
    model = build_classifier(get_backbone("cascade")).train()
    features = model.features
    assert isinstance(features, CascadeFeatures)
    before = {key: value.clone() for key, value in features.first.state_dict().items()}
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert features.second.training and not features.first.training
    assert all(value.grad is None for value in features.first.parameters())
    assert all(torch.equal(before[k], v) for k, v in features.first.state_dict().items())
    assert all(value.grad is not None for value in features.second.parameters())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cascade trained on a toy folder: its folder and its card."""
    folder = tmp_path_factory.mktemp("cascade")
    data = labelled_folder(folder / "data", per_class=9, buildings=6, size=(120, 96))
    lines = ["path,label,split,group"]
    for path in sorted(data.rglob("*.jpg")):
        split = {"house0": "validation", "house1": "test"}.get(path.parent.name, "train")
        where = path.relative_to(data)
        lines.append(f"{where},{path.parts[-3]},{split},{path.parent.name}")
    (data / "manifest.csv").write_text("\n".join(lines))
    torch.manual_seed(0)
    save_untrained(folder / "weights", "mobilenet_v3_large")
    card = train(
        QUICK,
        data,
        out=folder / "weights",
        run_dir=folder / "run",
        stage_two_init="scratch",
        stage_two_epochs=1,
    )
    assert not (folder / "run").exists()
    return folder, card


def test_a_trained_cascade_is_a_checkpoint_like_any_other(made):
    folder, card = made
    loaded = load_checkpoint("cascade", folder / "weights")
    first = load_checkpoint("mobilenet_v3_large", folder / "weights").model
    assert isinstance(loaded.model.features, CascadeFeatures)
    theirs = loaded.model.features.first.state_dict()
    assert all(torch.equal(theirs[key], value) for key, value in first.state_dict().items())
    assert card.metrics["test"]["n"] == 4
    found = Inspector("cascade", folder=folder / "weights").inspect(crack_photo())
    assert found.heatmap.shape == (180, 240)


def test_stage_ones_heat_is_at_hand_and_stays_out_of_the_json(made):
    folder, _ = made
    photo = crack_photo()
    found = Inspector("cascade", folder=folder / "weights").inspect(photo)
    alone = Inspector("mobilenet_v3_large", folder=folder / "weights").inspect(photo)
    assert found.first_stage is not None
    np.testing.assert_allclose(found.first_stage.grid, alone.grid, rtol=1e-4, atol=1e-7)
    assert found.first_stage.affected_percent == alone.affected_percent
    assert found.first_stage.damage_percent == found.damage_percent
    assert "first_stage" not in json.loads(inspection_json(found))
    assert alone.first_stage is None
    other = Inspector("cascade", folder=folder / "weights").inspect(photo, method="layer_cam")
    assert (other.method, other.first_stage.method) == ("layer_cam", "grad_cam")


def test_the_card_tells_the_settings_of_stage_two(made):
    _, card = made
    settings = card.training["stage_two"]
    assert settings["backbone"] == "resnet18"
    assert (settings["batch_size"], settings["learning_rate"]) == (16, 5e-5)


def test_the_card_says_what_the_cascade_gains_and_over_what(made):
    _, card = made
    assert [title.split(" (")[0] for title in card.comparison] == [
        "stage 1 alone",
        "the same ResNet on plain photos",
        "a cascade trained on leaky maps",
        "with leaky maps, against stage 1 alone",
        "with leaky maps, against the same ResNet on plain photos",
    ]
    for splits in card.comparison.values():
        assert list(splits) == ["test"]
        found = splits["test"]
        assert found["n"] == 4
        assert 0 <= found["p"] <= 1 and 0 <= found["p_by_building"] <= 1
        assert found["only_this_right"] + found["only_other_right"] <= 4


def test_each_photo_is_overlaid_by_the_reader_that_is_meant_for_it(made, tmp_path):
    folder, _ = made
    one = load_checkpoint("mobilenet_v3_large", folder / "weights").model
    torch.manual_seed(9)
    save_untrained(tmp_path, "mobilenet_v3_large")
    other = load_checkpoint("mobilenet_v3_large", tmp_path).model
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        crack_photo(path)
    cache = PhotoCache(448)
    mixed = OverlaidPhotos(
        cache, lambda path: one if path.name == "a.png" else other, tmp_path / "mixed"
    )
    all_one = OverlaidPhotos(cache, lambda path: one, tmp_path / "one")
    assert np.array_equal(mixed.pixels(paths[0]), all_one.pixels(paths[0]))
    assert not np.array_equal(mixed.pixels(paths[1]), all_one.pixels(paths[1]))
    assert mixed.pixels(paths[0]).shape == cache.pixels(paths[0]).shape


def test_photos_without_labels_are_learned_once_for_all_folds(made, tmp_path):
    folder, _ = made
    for file in (folder / "weights").glob("mobilenet_v3_large.*"):
        shutil.copy(file, tmp_path)
    save_untrained(tmp_path, "mobilenet_v2")
    steps = Counter()

    def listen(event):
        steps[event.epoch] += isinstance(event, Step)

    for n in range(8):
        crack_photo(tmp_path / "more" / f"{n}.jpg", cracked=n % 2, seed=700 + n)
    config = replace(QUICK, epochs=2, teacher="mobilenet_v2", teacher_share=0.0, feature_share=1.0)
    card = train(
        config,
        folder / "data",
        out=tmp_path,
        run_dir=tmp_path / "run",
        unlabelled=tmp_path / "more",
        stage_two_init="scratch",
        stage_two_epochs=1,
        listen=listen,
    )
    # The photos without labels twice, each fold once, three stages 2.
    assert sorted(steps) == list(range(1, 9)) and epochs_in_all(config, 1, unlabelled=True) == 8
    assert len(card.comparison) == 5


def test_overlays_that_memory_does_not_hold_are_made_once_all_the_same(made, tmp_path):
    folder, _ = made
    reader = load_checkpoint("mobilenet_v3_large", folder / "weights").model
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for seed, path in enumerate(paths):
        crack_photo(path, seed=seed)
    asked = []

    def reader_of(path):
        asked.append(path)
        return reader

    cache = PhotoCache(448)
    held = OverlaidPhotos(cache, reader_of, tmp_path / "held")
    small = OverlaidPhotos(cache, reader_of, tmp_path / "beyond", limit_bytes=0)
    for path in paths * 2:
        assert np.array_equal(held.pixels(path), small.pixels(path))
    assert len(asked) == 4
    assert len(list((tmp_path / "beyond").iterdir())) == 2
    assert not (tmp_path / "held").exists()


def test_a_stage_one_of_another_backbone_is_refused_before_anything_is_trained(made, tmp_path):
    folder, _ = made
    save_untrained(tmp_path, "mobilenet_v2")
    seen = []
    with pytest.raises(TrainingError, match="stage 1 must be a whole mobilenet_v3_large"):
        train(
            QUICK,
            folder / "data",
            out=tmp_path,
            run_dir=tmp_path / "run",
            stage_one="mobilenet_v2",
            stage_two_init="scratch",
            listen=seen.append,
        )
    assert not seen


def test_asking_to_prune_a_cascade_is_refused(made, tmp_path):
    folder, _ = made
    with pytest.raises(TrainingError, match="cannot be pruned"):
        train(replace(QUICK, prune=0.2), folder / "data", out=tmp_path, run_dir=tmp_path / "run")


def test_a_stage_two_is_not_resumed_on_the_heat_of_another_stage_one(made, tmp_path):
    folder, _ = made

    class StoppedError(Exception):
        pass

    def stop(event):
        if event.epoch == 4 and isinstance(event, EpochRecord):
            raise StoppedError

    def go(**more):
        train(
            QUICK,
            folder / "data",
            out=tmp_path,
            run_dir=tmp_path / "run",
            stage_two_init="scratch",
            stage_two_epochs=2,
            **more,
        )

    save_untrained(tmp_path, "mobilenet_v3_large")
    with pytest.raises(StoppedError):
        go(listen=stop)
    torch.manual_seed(77)
    save_untrained(tmp_path, "mobilenet_v3_large")
    with pytest.raises(TrainingError, match="other settings or other photos"):
        go()


def test_the_paired_test_counts_only_photos_on_which_the_two_differ():
    labels = np.array([1.0] * 20)
    names = tuple(str(n) for n in range(20))

    def answers(right, groups=names):
        logits = np.where(np.isin(np.arange(20), right), 1.0, -1.0)
        return Predictions(logits, labels, names, groups)

    ours, theirs = range(16), [*range(6), 18, 19]
    counts = {"n": 20, "only_this_right": 10, "only_other_right": 2, "p": 0.0386}
    found = paired_test(answers(ours), answers(theirs))
    assert found == counts | {"p_by_building": 0.0386}, "each photo is a building of its own"
    one = ("tower",) * 20
    found = paired_test(answers(ours, one), answers(theirs, one))
    assert found == counts | {"p_by_building": 1.0}, "of one building nothing can be told"
    assert paired_test(answers(range(5)), answers(range(5)))["p"] == 1.0


def test_the_script_compares_a_cascade_anew_as_its_training_did(
    made, tmp_path, monkeypatch, capsys
):
    folder, card = made
    weights = shutil.copytree(folder / "weights", tmp_path / "weights")
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(weights))
    update_card(replace(card, comparison={}), ["comparison"], weights)

    def compared(data, *options):
        runs = ["--runs", str(tmp_path / "runs")]
        monkeypatch.setattr(sys, "argv", ["compare_cascade.py", str(data), *runs, *options])
        return compare_cascade.main()

    other = labelled_folder(tmp_path / "other", per_class=3, size=(120, 96))
    assert compared(other) == 3
    assert "has learned from other photos" in capsys.readouterr().err
    assert compared(folder / "data", "--backbone", "nowhere") == 3
    assert compared(folder / "data", "--backbone", "mobilenet_v3_large") == 1
    assert "no trained cascade" in capsys.readouterr().err
    save_untrained(weights, "mobilenet_v3_large", name="another")
    assert compared(folder / "data", "--stage-one", "another") == 3
    assert "another: it is not the stage 1 of cascade" in capsys.readouterr().err
    assert read_card(weights / "cascade.json").comparison == {}, (
        "what cannot be done changes nothing"
    )
    assert compared(folder / "data") == 0
    assert read_card(weights / "cascade.json").comparison == card.comparison
    assert "stage 1 alone (mobilenet_v3_large), test:" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_without_photos_held_out_nothing_is_trained_only_to_be_compared(made, tmp_path):
    folder, _ = made
    data = shutil.copytree(folder / "data", tmp_path / "data")
    listed = (data / "manifest.csv").read_text().replace(",test,", ",train,")
    (data / "manifest.csv").write_text(listed)
    epochs = []
    card = train(
        QUICK,
        data,
        out=folder / "weights",
        name="not_compared",
        run_dir=tmp_path / "run",
        stage_two_init="scratch",
        stage_two_epochs=1,
        listen=lambda event: epochs.append(event.epoch) if isinstance(event, EpochRecord) else None,
    )
    assert card.comparison == {}
    assert len(epochs) == epochs_in_all(QUICK, 1) - 2


def test_folds_of_one_class_are_refused_before_anything_is_trained(made, tmp_path):
    folder, _ = made
    rows = (folder / "data" / "manifest.csv").read_text().splitlines()
    kept = [row for row in rows if ",damaged,train," not in row or row.endswith(("2", "3"))]
    shutil.copytree(folder / "data", tmp_path / "data")
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(kept))
    seen = []
    with pytest.raises(DatasetError, match="3 buildings at least of damaged and of sound"):
        train(
            QUICK,
            tmp_path / "data",
            out=folder / "weights",
            name="another",
            run_dir=tmp_path / "run",
            stage_two_init="scratch",
            listen=seen.append,
        )
    assert not seen
