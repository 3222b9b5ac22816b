"""What ships in `weights/` and `samples/`: it loads, is light, and does its job."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from heritage import Inspector
from heritage.backbones import get_backbone
from heritage.cards import list_cards
from heritage.checkpoints import load_checkpoint
from heritage.web.samples import SAMPLES_DIR, sample_photos

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "weights"
# Not what somebody has trained into the folder since.
NAMES = [
    *("alexnet", "cascade", "efficientnet_b0", "googlenet", "inception_v3", "mobilenet_v2"),
    *("mobilenet_v3_large", "resnet18", "vgg16", "xception"),
]


def test_every_file_in_weights_belongs_to_a_readable_card():
    cards = list_cards(WEIGHTS)
    names = {card.name for card in cards}
    pointers = {f"{card.name}.pointer" for card in cards if card.pointing}
    assert names >= set(NAMES)
    assert {path.stem for path in WEIGHTS.glob("*.safetensors")} == names | pointers
    assert {path.stem for path in WEIGHTS.glob("*.json")} == names


def test_weights_are_light():
    files = [path for name in NAMES for path in WEIGHTS.glob(f"{name}.*safetensors")]
    sizes_mb = [path.stat().st_size / 2**20 for path in files]
    assert max(sizes_mb) < 50
    assert sum(sizes_mb) < 150


@pytest.mark.parametrize("name", NAMES)
def test_a_card_tells_data_training_limits_licence_and_intervals(name):
    card = load_checkpoint(name, WEIGHTS).card
    assert card.temperature > 0
    assert card.limits
    assert card.licence
    assert card.command.startswith("python -m heritage train")
    assert card.input_size_px == get_backbone(card.backbone).input_size_px
    assert card.data["photos"]["train"]["damaged"] > 0
    for split in ("validation", "test", "test_other_source"):
        figures = card.metrics[split]
        assert figures["n"] == figures["n_damaged"] + figures["n_sound"]
        for figure in ("accuracy", "balanced_accuracy", "auroc", "f1", "ece"):
            assert figures[figure]["low"] <= figures[figure]["value"] <= figures[figure]["high"]
        assert len(figures["sources"]) > 1
        assert figures["confusion"] and figures["reliability"] and figures["reliability_before"]
        for figure in ("precision", "brier"):
            assert figures[figure]["low"] <= figures[figure]["value"] <= figures[figure]["high"]
    assert card.speed["ratio"] > 0
    for areas in ("deletion", "insertion", "deletion_random", "insertion_random"):
        assert 0 < card.heat_maps[areas]["value"] < 1


def test_the_cascade_is_compared_with_and_without_leakage():
    against = load_checkpoint("cascade", WEIGHTS).card.comparison
    assert len(against) == 5
    assert sum(title.startswith("with leaky maps, against") for title in against) == 2
    assert all(splits.keys() == {"test", "test_other_source"} for splits in against.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_card_names_no_folder_of_the_machine_that_made_it(name):
    text = (WEIGHTS / f"{name}.json").read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.:/])/\w+/|[A-Z]:\\\\", text)


def test_the_default_tells_the_cracked_wall_from_the_sound_tower():
    inspector = Inspector(folder=WEIGHTS)
    damaged = inspector.inspect(SAMPLES_DIR / "cracked-plaster.jpg")
    sound = inspector.inspect(SAMPLES_DIR / "summer-palace.jpg")
    assert damaged.damage_percent > 50
    assert sound.band == "Sound"
    assert damaged.evidence
    assert damaged.regions


def test_every_sample_opens_and_is_credited():
    assert len(sample_photos()) >= 3
    credit_list = (SAMPLES_DIR / "README.md").read_text(encoding="utf-8")
    for sample in sample_photos():
        assert sample.open().width > 300
        assert sample.credit
        assert sample.licence
        assert sample.file in credit_list


def test_readme_and_cards_agree_on_every_figure():
    check = [sys.executable, str(ROOT / "scripts" / "write_figures.py"), "--check"]
    assert subprocess.run(check, check=False).returncode == 0, "run scripts/write_figures.py"
