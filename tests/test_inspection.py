import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import crack_photo
from PIL import Image

from heritage import Inspector
from heritage.bands import BandThresholds
from heritage.cards import is_reserved
from heritage.errors import CheckpointError, PhotoError
from heritage.exports import inspection_json, overlay_png, safe_name, safe_stem
from heritage.photos import open_photo

KEYS = [
    *("photo", "sha256", "width", "height", "backbone", "damage_percent", "affected_percent"),
    *(
        "band",
        "unsure",
        "evidence",
        "regions",
        "taken_at",
        "camera",
        "latitude",
        "longitude",
        "warnings",
        "method",
        "absolute",
    ),
]


@pytest.fixture(scope="module")
def inspector(weights_dir):
    return Inspector("mobilenet_v2", folder=weights_dir)


def test_the_json_holds_the_documented_keys_and_the_dataclass_the_same_values(inspector, tmp_path):
    crack_photo(tmp_path / "tower.jpg", size=(320, 240))
    inspection = inspector.inspect(tmp_path / "tower.jpg")
    told = json.loads(inspection_json(inspection))
    assert list(told) == KEYS
    for key in set(KEYS) - {"regions", "warnings"}:
        assert getattr(inspection, key) == told[key]
    assert told["photo"] == "tower.jpg"
    assert (told["width"], told["height"]) == (320, 240)
    assert 0 <= told["damage_percent"] <= 100


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (900, 100), (64, 40), (2000, 1500)])
def test_the_heat_map_is_as_large_as_the_upright_photo_whatever_its_aspect(inspector, size):
    inspection = inspector.inspect(crack_photo(size=size))
    assert inspection.heatmap.shape == (size[1], size[0])
    assert inspection.heatmap.dtype == np.float32
    assert 0 <= inspection.heatmap.min() <= inspection.heatmap.max() <= 1


def test_a_photo_turned_by_exif_gets_the_answer_of_its_upright_copy(inspector, tmp_path):
    upright = Image.open(io.BytesIO(crack_photo(tmp_path / "a.png", size=(400, 300))))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    one = inspector.inspect(tmp_path / "upright.png")
    other = inspector.inspect(tmp_path / "turned.png")
    assert (other.width, other.height) == (400, 300)
    assert other.damage_percent == one.damage_percent
    assert np.array_equal(one.heatmap, other.heatmap)


def test_path_bytes_file_and_photo_give_the_same_numbers(inspector, tmp_path):
    data = crack_photo(tmp_path / "wall.jpg", size=(640, 480))
    from_path = inspector.inspect(tmp_path / "wall.jpg").as_dict()
    assert inspector.inspect(str(tmp_path / "wall.jpg")).as_dict() == from_path
    assert inspector.inspect(open_photo(data, "wall.jpg")).as_dict() == from_path
    with (tmp_path / "wall.jpg").open("rb") as file:
        assert inspector.inspect(file).as_dict() == from_path


def test_four_threads_get_the_answers_of_one(inspector):
    photos = [crack_photo(size=(300 + 20 * i, 240), seed=i) for i in range(4)]
    alone = [inspector.inspect(data) for data in photos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(inspector.inspect, photos * 2))
    for i, found in enumerate(together):
        assert found.as_dict() == alone[i % 4].as_dict()
        assert np.array_equal(found.grid, alone[i % 4].grid)


def test_thresholds_decide_the_band(weights_dir):
    data = crack_photo()
    everything = BandThresholds(urgent_percent=0, high_percent=0, watch_percent=0)
    nothing = BandThresholds(urgent_percent=100, high_percent=100, watch_percent=100)
    assert Inspector("mobilenet_v2", folder=weights_dir, thresholds=everything).inspect(
        data
    ).band == ("Urgent")
    assert Inspector("mobilenet_v2", folder=weights_dir, thresholds=nothing).inspect(data).band == (
        "Sound"
    )


def test_regions_lie_in_the_photo_and_affected_area_matches_the_heat(inspector):
    inspection = inspector.inspect(crack_photo(size=(1600, 900)))
    for region in inspection.regions:
        assert region.x >= 0
        assert region.y >= 0
        assert region.x + region.width <= 1600
        assert region.y + region.height <= 900
    hot = (inspection.heatmap >= 0.5).mean() * 100
    assert inspection.affected_percent == pytest.approx(hot, abs=0.5)


def test_a_bad_photo_is_an_error_that_names_it(inspector, tmp_path):
    (tmp_path / "notes.jpg").write_text("not a photo")
    with pytest.raises(PhotoError, match=r"notes\.jpg: .+; .+"):
        inspector.inspect(tmp_path / "notes.jpg")


def test_an_unknown_checkpoint_is_an_error_that_lists_the_known(weights_dir):
    with pytest.raises(CheckpointError, match="mobilenet_v2"):
        Inspector("no_such_net", folder=weights_dir)


@pytest.mark.parametrize("hot_only", [True, False])
def test_the_overlay_png_has_the_photos_size_and_follows_the_opacity(inspector, hot_only):
    photo = open_photo(crack_photo(size=(500, 400)), "wall.jpg")
    inspection = inspector.inspect(photo)
    opened = [
        np.asarray(
            Image.open(
                io.BytesIO(
                    overlay_png(
                        photo, inspection, opacity_percent=percent, hot_only=hot_only, boxes=False
                    )
                )
            )
        ).astype(int)
        for percent in (0, 50, 100)
    ]
    assert np.array_equal(opened[0], photo.pixels())
    if inspection.evidence:
        assert 0 < np.abs(opened[1] - opened[0]).sum() < np.abs(opened[2] - opened[0]).sum()
    else:
        assert np.array_equal(opened[0], opened[2])


def test_boxes_are_drawn_where_the_regions_are(inspector):
    photo = open_photo(crack_photo(size=(500, 400)), "wall.jpg")
    inspection = inspector.inspect(photo)
    assert inspection.regions, "this photo and seed must have a region"
    plain, boxed = (
        np.asarray(
            Image.open(io.BytesIO(overlay_png(photo, inspection, opacity_percent=0, boxes=boxes)))
        ).astype(int)
        for boxes in (False, True)
    )
    changed = np.abs(plain - boxed).sum(2) > 0
    region = inspection.regions[0]
    assert changed[region.y : region.y + 2, region.x : region.x + region.width].mean() > 0.9


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b\\c.jpg", "\x00.jpg", "...", "=cmd.jpg", "x" * 300 + ".jpg"]
)
def test_no_name_leads_out_of_the_folder(name):
    for stem in (safe_stem(name), safe_name(name)):
        assert stem
        assert not set(stem) & set("/\\\x00=")
        assert not stem.startswith(".")
        assert len(stem) <= 80


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("St. Anna", "St._Anna"),
        ("06.05.2026 Kirche", "06.05.2026_Kirche"),
        ("Haus 5/7", "Haus_5_7"),
        (f"{'x' * 79}. tower", "x" * 79),
        ("Aux", "_Aux"),
        ("com1.north", "_com1.north"),
        ("Auxiliary", "Auxiliary"),
        ("塔" * 80, "塔" * 53),
    ],
)
def test_the_dots_and_slashes_of_a_name_that_is_no_files_end_nothing(name, safe):
    assert safe_name(name) == safe
    assert not is_reserved(safe)
