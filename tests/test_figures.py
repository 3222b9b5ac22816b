import pytest

from heritage.bands import BandThresholds
from heritage.cards import ModelCard
from heritage.figures import (
    found_tables,
    in_told_order,
    interval_text,
    localisation_rows,
    localisation_tables,
    percent_text,
    shown_percent,
    value_percent,
)
from heritage.priority import PriorityRow
from heritage.web.backbone_cards import (
    ELSEWHERE,
    NOT_YET,
    OURS,
    card_history,
    comparison,
    crops_text,
    option_text,
    weak_sources,
)
from heritage.web.survey_charts import damage_histogram


def figure(value):
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def card(**fields):
    found = {"pointing_game": figure(0.2), "energy": figure(0.07), "iou": figure(0.05)}
    methods = {
        "Grad-CAM": found | {"seconds_a_photo": 0.02},
        "Detail scan": found | {"pointing_game": figure(0.9), "seconds_a_photo": 0.05},
    }
    localisation = {"masonry": {"n": 240, "chance": 0.042, "methods": methods}}
    values = {"name": "mobilenet_v2", "backbone": "mobilenet_v2", "sha256": "", "parameters": 1}
    return ModelCard(**values | {"localisation": localisation} | fields)


@pytest.mark.parametrize(
    ("percent", "text"),
    [(84.96, "84.9 %"), (49.97, "49.9 %"), (85.0, "85.0 %"), (99.97, "> 99.9 %")],
)
def test_a_percentage_is_never_rounded_up_to_a_band_that_it_is_not_in(percent, text):
    assert percent_text(percent) == text


def test_as_a_number_a_percentage_is_no_certainty_either():
    assert [shown_percent(p) for p in (0.0, 0.04, 29.3, 84.96, 99.95, 100.0)] == [
        *(0.1, 0.1, 29.3, 84.9, 99.9, 99.9)
    ]


def test_every_inspected_photo_stands_within_the_axis_of_the_histogram():
    rows = [PriorityRow(f"{p}.jpg", damage_percent=p, band="Urgent") for p in (0.0, 85.0, 100.0)]
    for chart in damage_histogram(rows, BandThresholds()).data:
        assert all(0 <= x < 100 for x in chart.x)


def test_the_select_box_tells_the_best_figure_there_is_and_of_what_photos():
    scored = {"n": 30, "balanced_accuracy": figure(0.912)}
    own = card(name="our_town", metrics={"validation": scored})
    assert " · 91 % (validation) · " in option_text(own)
    assert " · 91 % · " in option_text(card(metrics={"test_other_source": scored}))
    near = {"n": 30, "balanced_accuracy": figure(0.6746)}
    assert " · 67 % · " in option_text(card(metrics={"test_other_source": near}))


def test_each_heat_map_is_a_line_with_its_interval_and_its_time_against_grad_cam():
    first, second = localisation_rows(card())
    assert first == {
        "Photos": "masonry, n = 240",
        "Heat map": "Grad-CAM",
        "Pointing game": "0.200 [0.150–0.250]",
        "Energy": "0.070 [0.020–0.120]",
        "IoU": "0.050 [0.000–0.100]",
        "Time": "1.0 ×",
    }
    assert second["Pointing game"] == "0.900 [0.850–0.950]"
    assert second["Time"] == "2.5 ×"


def test_a_card_names_the_photos_on_which_it_is_no_help():
    def found(n, damaged, sound):
        recalls = {"recall_damaged": figure(damaged), "recall_sound": figure(sound)}
        return {"n": n, **{name: value for name, value in recalls.items() if value["value"]}}

    sources = {
        "old-city-wall": found(125, 0.95, 0.28),
        "our *town*": found(40, 0.04, 0.9),
        "few": {"n": 201, "recall_damaged": {"value": 0.0, "low": 0.0, "high": 0.975}},
        "damaged alone": found(30, 0.8, 0),
    }
    told = weak_sources(card(metrics={"test_other_source": {"n": 200, "sources": sources}}))
    assert told == [
        "Historic brick and stone, close up (old\\-city\\-wall): of ten sound ones it calls "
        "damaged about **7**.",
        "Our \\*town\\*: of ten damaged ones it misses about **10**.",
    ]
    assert weak_sources(card()) == []


def test_curves_are_drawn_of_a_history_that_can_be_drawn_alone():
    epoch = {
        **{"epoch": 1, "train_loss": 0.5, "validation_loss": 0.4, "seconds": 60.0},
        **{"validation_balanced_accuracy": 0.8, "validation_auroc": 0.9},
    }
    assert [record.epoch for record in card_history(card(training={"history": [epoch]}))] == [1]
    for broken in (None, "x", [1], [{"epoch": 1}], [epoch | {"seconds": "a"}], 5):
        assert card_history(card(training={"history": broken})) == []
    assert card_history(card(training={"history": [epoch | {"train_loss": float("nan")}]})) == []


@pytest.mark.parametrize(
    ("settings", "epochs", "text"),
    [
        ({}, 3, "224 pixels"),
        ({"crop_side_px": 128, "epochs": 9}, 9, "128 pixels"),
        (
            {"crop_side_px": 128, "epochs": 9, "full_size_epochs": 2},
            9,
            "128 pixels and at the end of 224",
        ),
        ({"crop_side_px": 128, "epochs": 9, "full_size_epochs": 2}, 7, "128 pixels"),
        ({"crop_side_px": 96, "epochs": 1, "full_size_epochs": 1}, 1, "224 pixels"),
        (
            {"crop_side_px": 64, "full_size_px": 112, "epochs": 5, "full_size_epochs": 2},
            5,
            "64 pixels and at the end of 112",
        ),
        ({"crop_side_px": 64, "epochs": "x", "full_size_epochs": 2}, 5, "64 pixels"),
    ],
)
def test_larger_crops_are_told_where_a_run_came_to_them(settings, epochs, text):
    assert crops_text(card(), settings, epochs) == text


def test_the_tables_of_what_was_found_tell_aims_weaknesses_and_paired_tests():
    known = {"n": 9, "accuracy": figure(0.97), "ece": figure(0.04)}
    wall = {"n": 5, "balanced_accuracy": figure(0.6), "recall_damaged": figure(0.9)}
    metrics = {"test": known, "test_other_source": {"n": 5, "sources": {"old-city-wall": wall}}}
    test = {"n": 9, "only_this_right": 3, "only_other_right": 1, "p": 0.625, "p_by_building": 0.5}
    cards = [
        card(metrics=metrics, comparison={"another": {"test": test}}),
        card(name="other", metrics={"test": known | {"ece": figure(0.01)}}),
    ]
    aims, weaknesses, paired = found_tables(cards).split("\n\n")
    assert "| known sources: accuracy ≥ 96 % | 97.0 % [92.0–102.0] |" in aims
    assert aims.splitlines()[2].endswith("| yes |")
    assert "| old masonry: balanced accuracy ≥ 85 % | 60.0 % [55.0–65.0] |" in aims
    assert "(MobileNetV2 (other)) | yes |" in aims.splitlines()[-1]
    assert "AUROC ≥" not in aims, "what was not measured is no line"
    assert "| MobileNetV2 | 0.040 (–) | – | 0.90 | – | – |" in weaknesses
    assert "| MobileNetV2 | another | 3 : 1 of 9 | 0.625, 0.500 | – | – |" in paired


def test_the_tables_name_the_checkpoint_and_chance_and_leave_out_what_was_not_measured():
    told = localisation_tables([card(), card(name="other", localisation={})])
    assert told.startswith("### MobileNetV2\n\n| Photos | Heat map | Pointing game |")
    assert "Chance: masonry: 0.0420." in told
    assert "other" not in told


def test_a_checkpoint_scored_on_photos_of_its_own_is_not_put_beside_the_others_unnoticed():
    def scored(name, n, *sources):
        found = {"n": n, "sources": {source: {"n": 1} for source in sources}}
        return card(name=name, metrics={"test": found, "validation": {"n": n + 1}})

    cards = [
        scored("one", 539, "walls", "temples"),
        scored("our_town", 40, "town"),
        scored("another", 539, "temples", "walls"),
        card(name="not_scored"),
    ]
    told = comparison(cards)["Measured by"].tolist()
    assert told[:4] == [OURS, ELSEWHERE, OURS, NOT_YET]


def test_the_select_box_begins_with_the_default_and_then_goes_by_what_it_tells():
    def scored(name, split, value):
        return card(name=name, metrics={split: {"n": 9, "balanced_accuracy": {"value": value}}})

    cards = [
        scored("default", "test_other_source", 0.7),
        scored("weak", "test_other_source", 0.6),
        scored("own", "validation", 0.99),
        scored("strong", "test_other_source", 0.9),
        card(name="untried"),
    ]
    names = [each.name for each in in_told_order(cards)]
    assert names == ["default", "strong", "weak", "own", "untried"]
    assert in_told_order([]) == []


@pytest.mark.parametrize("value", [0.7565, 0.0005, 0.9995, 0.12345, 1.0])
def test_a_page_rounds_as_the_readme_does(value):
    figures = {"balanced_accuracy": figure(value)}
    told = interval_text(figures, "balanced_accuracy").split(" %")[0]
    assert f"{value_percent(figures, 'balanced_accuracy'):.1f}" == told
