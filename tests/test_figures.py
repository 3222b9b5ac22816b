from heritage.cards import ModelCard
from heritage.figures import localisation_rows, localisation_tables
from heritage.web.backbone_cards import ELSEWHERE, OURS, comparison


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
    assert told[:4] == [OURS, ELSEWHERE, OURS, OURS]
