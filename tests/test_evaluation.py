from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import crack_photo
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from heritage.checkpoints import load_checkpoint
from heritage.errors import PhotoError
from heritage.training.datasets import PhotoCache, Sample
from heritage.training.evaluation import (
    Predictions,
    TurnedPhotos,
    auroc,
    balanced_log_loss,
    bootstrap_interval,
    calibration_by_chance,
    calibration_error,
    fit_temperature,
    predict,
    report,
    unsure_band,
)

FIGURES = {
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "precision",
    "f1",
    "recall_damaged",
    "recall_sound",
    "ece",
    "brier",
}


def predictions(logits, labels, sources=None, groups=None):
    n = len(logits)
    return Predictions(
        np.asarray(logits, float),
        np.asarray(labels, float),
        tuple(sources or [""] * n),
        tuple(groups or [str(i) for i in range(n)]),
    )


def drawn(n, seed=0, sharper=1.0):
    """Photos whose label really is 1 with probability sigmoid(logit / sharper)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    return predictions(logits * sharper, rng.random(n) < expit(logits))


@pytest.mark.parametrize(
    ("probabilities", "labels", "error"),
    [
        ([0.75] * 4, [1, 1, 1, 0], 0.0),
        ([0.9] * 4, [0, 0, 0, 0], 0.9),
        ([1.0, 0.0], [1, 0], 0.0),
        ([1.0, 0.0], [0, 1], 1.0),
        ([0.25, 0.25, 0.85, 0.85], [0, 0, 1, 1], 0.2),
        ([0.21, 0.29], [0, 1], 0.25),
    ],
)
def test_calibration_error_of_known_cases(probabilities, labels, error):
    found = calibration_error(np.array(probabilities), np.array(labels))
    assert found == pytest.approx(error, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_recovered(temperature):
    found = fit_temperature(drawn(20_000, sharper=temperature))
    assert found == pytest.approx(temperature, rel=0.1)


def test_a_few_photos_all_called_rightly_do_not_make_answers_surer():
    assert fit_temperature(predictions([1, 0.6, -0.3, -2], [1, 1, 0, 0])) >= 1


def test_a_perfect_score_has_a_width_and_fewer_photos_a_greater_one():
    def lower_end(n):
        labels = np.arange(n) % 2
        return report(predictions(labels * 4.0 - 2, labels), 1.0)["auroc"]["low"]

    # All of n right: the exact lower end of a share is .025 ** (1 / n), here of each class.
    assert lower_end(4) == pytest.approx(0.025 ** (1 / 2), abs=1e-3)
    assert lower_end(60) == pytest.approx(0.025 ** (1 / 30), abs=1e-3)


def test_a_class_without_a_mistake_does_not_make_the_mean_of_both_surer():
    labels = np.array([0] * 40 + [1] * 80)
    called_damaged = np.array([0] * 40 + [1] * 8 + [0] * 72)
    table = report(predictions(called_damaged * 2.0 - 1, labels), 1.0)
    sound, mean = table["recall_sound"], table["balanced_accuracy"]
    assert sound["value"] == 1 and sound["low"] < 0.92
    # Were nothing known but that class, its half of the mean would still leave this much open.
    assert mean["low"] <= mean["value"] - (1 - sound["low"]) / 2 + 1e-4


def test_one_building_is_no_more_evidence_than_one_photo():
    scores = drawn(40)
    table = report(predictions(scores.logits, scores.labels, groups=["tower"] * 40), 1.0)
    found = table["accuracy"]
    assert found["low"] < 0.1 and found["high"] > found["value"]


def test_none_of_thirty_is_not_surely_none():
    assert bootstrap_interval(np.zeros(30)) == {"value": 0, "low": 0, "high": 0.1157}


def test_calibration_gives_the_rare_class_as_much_weight():
    scores = drawn(20_000, sharper=3.0)
    rng = np.random.default_rng(1)
    kept = np.flatnonzero((scores.labels == 1) | (rng.random(20_000) < 0.1))
    assert fit_temperature(scores.take(kept)) == pytest.approx(3.0, rel=0.1)


def test_the_loss_of_a_coin_toss_is_log_two_whatever_the_class_counts():
    assert balanced_log_loss(predictions([0] * 10, [1] * 9 + [0])) == pytest.approx(np.log(2))


def test_known_figures_are_right():
    table = report(predictions([2, 1, -1, -2, 1, -1], [1, 1, 1, 0, 0, 0]), 1.0)
    assert (table["n"], table["n_damaged"], table["n_sound"]) == (6, 3, 3)
    values = {name: table[name]["value"] for name in FIGURES}
    assert values["accuracy"] == values["balanced_accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    assert values["recall_damaged"] == values["recall_sound"] == pytest.approx(2 / 3, abs=1e-4)
    assert values["f1"] == pytest.approx(2 / 3, abs=1e-4)
    assert values["auroc"] == pytest.approx(7 / 9, abs=1e-4)
    assert values["precision"] == pytest.approx(2 / 3, abs=1e-4)
    errors = (1 - expit(np.array([2, 1, -1, 2, -1, 1]))) ** 2
    assert values["brier"] == pytest.approx(errors.mean(), abs=1e-4)
    assert table["confusion"] == {
        "damaged_called_damaged": 2,
        "damaged_called_sound": 1,
        "sound_called_damaged": 1,
        "sound_called_sound": 2,
    }


def test_auroc_agrees_with_scikit_learn_ties_included():
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = np.array([0, 1, *rng.integers(0, 2, 30)])
        scores = rng.integers(0, 8, 32) / 8
        assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_always_answering_damaged_does_not_look_good():
    table = report(predictions([3] * 60, [1] * 50 + [0] * 10), 1.0)
    assert table["accuracy"]["value"] > 0.8
    assert table["balanced_accuracy"]["value"] == 0.5
    assert table["auroc"]["value"] == 0.5
    assert table["recall_sound"]["value"] == 0


def test_the_threshold_and_the_temperature_decide_what_is_called_damaged():
    scores = predictions([2.0, 2.0, -2.0], [1, 0, 0])
    assert report(scores, 1.0, threshold=0.8)["recall_damaged"]["value"] == 1
    assert report(scores, 4.0, threshold=0.8)["recall_damaged"]["value"] == 0


@pytest.mark.parametrize(("n", "seed"), [(12, 0), (12, 1), (100, 2), (100, 3)])
def test_every_interval_contains_its_value(n, seed):
    table = report(drawn(n, seed), 1.0)
    for name in FIGURES:
        assert 0 <= table[name]["low"] <= table[name]["value"] <= table[name]["high"] <= 1


def test_more_photos_make_an_interval_narrower():
    def width(n):
        figure = report(drawn(n), 1.0)["balanced_accuracy"]
        return figure["high"] - figure["low"]

    assert width(800) < 0.6 * width(100)


def test_photos_of_one_building_are_not_taken_for_independent_evidence():
    once = drawn(30)
    repeated = once.take(np.repeat(np.arange(30), 9))
    alone = predictions(repeated.logits, repeated.labels)

    def width(scores):
        figure = report(scores, 1.0)["balanced_accuracy"]
        return figure["high"] - figure["low"]

    assert width(repeated) > 2 * width(alone)
    assert width(repeated) == pytest.approx(width(once), rel=0.2)


def test_a_source_with_one_class_gets_only_the_recall_of_that_class():
    table = report(
        predictions(
            [2, -1, 1, -2, 3, 1],
            [1, 0, 1, 0, 1, 1],
            ["mixed"] * 4 + ["ruins"] * 2,
        ),
        1.0,
    )
    counts = {"n", "n_damaged", "n_sound"}
    assert set(table["sources"]["ruins"]) == counts | {"recall_damaged"}
    assert set(table["sources"]["mixed"]) == counts | FIGURES
    assert {"confusion", "reliability", "reliability_before", "ece_by_chance"} <= set(table)
    assert table["sources"]["ruins"]["n"] == 2
    assert set(report(predictions([1, -1], [0, 0]), 1.0)) == counts | {"recall_sound"}


def test_a_single_source_is_not_reported_twice():
    assert "sources" not in report(drawn(10), 1.0)


def test_figures_can_be_repeated():
    assert report(drawn(40), 1.3) == report(drawn(40), 1.3)


def test_the_reliability_diagram_holds_every_photo_and_explains_the_calibration_error():
    scores = drawn(5000, sharper=3.0)
    table = report(scores, 3.0)
    for name in ("reliability", "reliability_before"):
        assert sum(b["n"] for b in table[name]) == 5000
    gap = sum(abs(b["probability"] - b["damaged"]) * b["n"] for b in table["reliability"]) / 5000
    assert table["ece"]["value"] == pytest.approx(gap, abs=1e-3)
    before = sum(abs(b["probability"] - b["damaged"]) * b["n"] for b in table["reliability_before"])
    assert before / 5000 > 3 * gap, "scores three times too sharp are told from calibrated ones"


def test_the_bars_of_chance_hold_what_is_calibrated_and_not_what_is_too_sure():
    within = dict.fromkeys((1.0, 3.0), 0)
    for seed in range(40):
        for sharper in within:
            scores = drawn(300, seed, sharper)
            probabilities = expit(scores.logits)
            _, chance = calibration_by_chance(probabilities)
            error = calibration_error(probabilities, scores.labels)
            within[sharper] += chance["low"] <= error <= chance["high"]
    assert within[1.0] >= 34
    assert within[3.0] == 0


def test_the_bar_of_a_bin_is_the_binomial_interval():
    # 95 % of 100 throws of a coin show between 40 and 60 heads.
    bars, error = calibration_by_chance(np.full(100, 0.5))
    assert bars == [{"low": pytest.approx(0.4, abs=0.011), "high": pytest.approx(0.6, abs=0.011)}]
    assert error["low"] == pytest.approx(0, abs=0.01)
    assert error["high"] == pytest.approx(0.11, abs=0.011)


def test_outside_the_unsure_band_few_answers_are_wrong_and_inside_many():
    scores = drawn(20_000, seed=4)
    probabilities, labels = expit(scores.logits), scores.labels
    low, high = unsure_band(probabilities, labels, wrong_share=0.05)
    assert 0 < low < 0.5 < high < 1
    assert labels[probabilities <= low].mean() == pytest.approx(0.05, abs=0.01)
    assert 1 - labels[probabilities >= high].mean() == pytest.approx(0.05, abs=0.01)
    inside = (probabilities > low) & (probabilities < high)
    called = probabilities[inside] >= 0.5
    assert (called != (labels[inside] == 1)).mean() > 0.15


def test_answers_that_are_always_right_leave_nothing_unsure_and_useless_ones_everything():
    labels = np.array([0, 0, 1, 1])
    low, high = unsure_band(np.array([0.1, 0.2, 0.8, 0.9]), labels)
    assert low == high == 0.5
    assert unsure_band(np.array([0.5, 0.5, 0.5, 0.5]), labels) == (0.0, 1.0)
    assert unsure_band(np.array([0.9, 0.8, 0.2, 0.1]), labels) == (0.0, 1.0)


def test_no_end_of_the_unsure_band_lies_where_the_answers_are_not_good_enough():
    probabilities = np.repeat([0.1, 0.6, 0.2, 0.9], [60, 40, 4, 96])
    labels = np.repeat([0, 0, 1, 1], [60, 40, 4, 96])
    low, high = unsure_band(probabilities, labels)
    assert labels[probabilities <= low].mean() <= 0.05 or low == 0.1
    assert low < 0.2, "6 % of what lies below one half is damaged"
    assert high == 0.9


def test_turned_photos_are_turned_by_every_quarter_and_always_the_same(tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(40)]
    for path in paths:
        crack_photo(path, size=(64, 48))
    cache = PhotoCache(48)
    first, again = TurnedPhotos(cache), TurnedPhotos(cache)
    seen = dict.fromkeys(range(4), 0)
    for path in paths:
        turned, plain = first.pixels(path), cache.pixels(path)
        assert np.array_equal(turned, again.pixels(path))
        (turns,) = (n for n in range(4) if np.array_equal(turned, np.rot90(plain, n)))
        seen[turns] += 1
    assert min(seen.values()) >= 3


@pytest.fixture
def network(weights_dir):
    checkpoint = load_checkpoint("mobilenet_v2", weights_dir)
    return checkpoint.model, checkpoint.backbone


@pytest.fixture
def mixed_shapes(tmp_path):
    sizes = [(240, 180), (180, 240), (240, 180), (300, 100), (240, 180), (180, 240), (240, 180)]
    for n, size in enumerate(sizes):
        crack_photo(tmp_path / f"{n}.png", cracked=n % 2, size=size, seed=n)
    return [
        Sample(tmp_path / f"{n}.png", float(n % 2), "test", f"source{n}", f"group{n}")
        for n in range(len(sizes))
    ]


def test_an_answer_does_not_depend_on_the_photos_it_is_batched_with(network, mixed_shapes):
    cache = PhotoCache(448)
    alone = predict(*network, mixed_shapes, cache, batch_size=1)
    for batch_size in (2, 3, 32):
        together = predict(*network, mixed_shapes, cache, batch_size=batch_size)
        assert together.logits == pytest.approx(alone.logits, abs=1e-4)
    assert len(set(alone.logits.round(6))) == len(mixed_shapes)
    assert alone.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert alone.sources == tuple(f"source{n}" for n in range(7))
    assert alone.groups == tuple(f"group{n}" for n in range(7))


@pytest.mark.parametrize("training", [True, False])
def test_predicting_gives_the_model_back_as_it_was(network, mixed_shapes, training):
    model, backbone = network
    model.train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    predict(model, backbone, mixed_shapes[:2], PhotoCache(448))
    assert model.training == training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    mixed_shapes[1].path.write_bytes(b"no photo")
    with pytest.raises(PhotoError):
        predict(model, backbone, mixed_shapes, PhotoCache(448))
    assert model.training == training
    assert torch.is_grad_enabled()
