import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import crack_photo, save_untrained, wall
from onnxruntime import InferenceSession
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException as OrtError
from PIL import Image
from torch.nn import functional

from heritage import Inspector, scanning
from heritage.backbones import BACKBONES, get_backbone
from heritage.checkpoints import load_checkpoint, save_pointer
from heritage.errors import PhotoError
from heritage.exports import encode_jpeg, encode_png
from heritage.inspection import found_in
from heritage.photos import Photo, open_photo
from heritage.pointing import PointingHead, tap_points
from heritage.scanning import CELL_PX, MAX_PIXELS, at_levels, plan_scan, scan
from heritage.words import PASSED_OVER

MOBILE = get_backbone("mobilenet_v2")
SIZES = [(6000, 4000), (4000, 6000), (224, 224), (300, 1111), (33, 600), (1023, 767), (449, 448)]


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "xception", "alexnet"])
@pytest.mark.parametrize("size", SIZES)
def test_tiles_cover_every_cell_of_every_level(size, backbone):
    plan = plan_scan(*size, get_backbone(backbone))
    for level, (height, width) in enumerate(plan.levels):
        cells = np.zeros((height // CELL_PX, width // CELL_PX), int)
        places = plan.places(level)
        rows, columns = (min(plan.tile_px, length) // CELL_PX for length in (height, width))
        for top, left in places:
            assert top % CELL_PX == left % CELL_PX == 0
            assert top + rows * CELL_PX <= height
            assert left + columns * CELL_PX <= width
            cells[top // CELL_PX :, left // CELL_PX :][:rows, :columns] += 1
        assert cells.min() >= 1
        assert len(places) == len(set(places))
    assert plan.tiles == sum(len(plan.places(level)) for level in range(len(plan.levels)))


def test_a_large_photo_is_read_at_full_size_and_a_vast_one_at_what_memory_allows():
    assert plan_scan(6000, 4000, MOBILE).levels[0] == (4000, 6000)
    height, width = plan_scan(20_000, 12_000, MOBILE).levels[0]
    assert width * height <= MAX_PIXELS * 1.001
    assert width / height == pytest.approx(20 / 12, abs=1e-3)


def test_there_are_three_scales_unless_the_photo_is_tiny():
    for size in SIZES:
        levels = plan_scan(*size, MOBILE).levels
        assert len(levels) == (3 if min(size) > 64 else 2)
        for larger, smaller in pairwise(levels):
            assert larger[0] / smaller[0] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_no_tile_is_smaller_than_the_backbone_can_take(name):
    backbone = get_backbone(name)
    for size in [(32, 32), (32, 640), (60, 70), *SIZES]:
        plan = plan_scan(*size, backbone)
        for height, width in plan.levels:
            assert min(height, width, plan.tile_px) >= backbone.smallest_input_px
            assert height / width == pytest.approx(size[1] / size[0], rel=0.03)


def darkness(x):
    """What a head would say that sees how dark each cell is, and nothing around it."""
    return functional.avg_pool2d((-x).mean(1, keepdim=True), CELL_PX)[:, 0]


def test_stitched_tiles_are_the_map_of_the_whole():
    pixels = wall(True, (1330, 900), seed=3)
    plan = plan_scan(1330, 900, MOBILE)
    assert plan.tiles > 6
    found = scan(at_levels(pixels, plan), plan, darkness, MOBILE)
    assert found.shape == plan.cells
    whole = np.zeros(plan.cells, np.float32)
    for height, width in plan.levels:
        picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        mean, deviation = (np.array(v, np.float32) for v in (MOBILE.mean, MOBILE.std))
        x = (np.asarray(picture, np.float32) / 255 - mean) / deviation
        level = darkness(torch.from_numpy(x).permute(2, 0, 1)[None])[0].numpy()
        grown = Image.fromarray(level).resize(plan.cells[::-1], Image.Resampling.BILINEAR)
        whole += np.asarray(grown) / len(plan.levels)
    assert np.abs(found - whole).max() < 0.02, "a seam"


def test_progress_is_told_up_to_the_last_tile():
    plan = plan_scan(1330, 900, MOBILE)
    told = []
    levels = at_levels(wall(False, (1330, 900)), plan)
    scan(levels, plan, darkness, MOBILE, told.append)
    assert told == sorted(set(told))
    assert told[-1] == plan.tiles


@pytest.fixture(scope="module")
def pointing_weights(tmp_path_factory):
    """An untrained checkpoint whose head that points answers to what is unlike the wall."""
    folder = tmp_path_factory.mktemp("pointing")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_untrained(folder, auroc=0.5)
        checkpoint = load_checkpoint("mobilenet_v2", folder)
        head = PointingHead(tap_points(checkpoint.model.features, MOBILE)[1])
        head.eval()
    save_pointer(checkpoint.card, head, {"command": "a test"}, folder)
    return folder


def test_damage_percent_and_band_stay_those_of_the_whole_photo(pointing_weights):
    inspector = Inspector(folder=pointing_weights)
    photo = open_photo(crack_photo(size=(900, 700)), "tower.jpg")
    whole = inspector.inspect(photo)
    found = inspector.scan(photo)
    assert (found.damage_percent, found.band) == (whole.damage_percent, whole.band)
    assert found.method == "detail_scan"
    assert found.whole == whole
    assert found.absolute
    assert found.grid.shape == (700 // CELL_PX, 900 // CELL_PX)
    assert found.heatmap.shape == (700, 900)
    assert 0 <= found.heatmap.min() <= found.heatmap.max() <= 1
    assert "grid" not in found.as_dict()
    assert "whole" not in found.as_dict()


def test_the_hot_threshold_of_the_card_is_where_heat_turns_hot(pointing_weights, tmp_path):
    card = load_checkpoint("mobilenet_v2", pointing_weights).card
    for file in pointing_weights.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    photo = open_photo(crack_photo(size=(900, 700)), "tower.jpg")
    plain = Inspector(folder=pointing_weights).scan(photo).grid
    hot = float(np.quantile(plain, 0.9))
    head = load_checkpoint("mobilenet_v2", pointing_weights).pointer
    save_pointer(card, head, {"hot": hot}, tmp_path)
    shifted = Inspector(folder=tmp_path).scan(photo)
    assert shifted.affected_percent == pytest.approx(10, abs=0.5)
    assert np.array_equal(plain >= hot, shifted.grid >= 0.5)


def test_without_a_head_that_points_grad_cam_is_stitched(weights_dir):
    inspector = Inspector(folder=weights_dir)
    photo = open_photo(crack_photo(size=(900, 700)), "tower.jpg")
    found = inspector.scan(photo)
    assert found.method == "detail_scan"
    assert not found.absolute
    assert found.damage_percent == inspector.inspect(photo).damage_percent
    assert found.grid.shape == (175, 225)


def test_a_sound_answer_says_so_where_the_scan_found_places(pointing_weights, tmp_path):
    card = load_checkpoint("mobilenet_v2", pointing_weights).card
    for file in pointing_weights.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    head = load_checkpoint("mobilenet_v2", pointing_weights).pointer
    photo = open_photo(encode_png(wall(True, (600, 500), seed=1)), "tower.png")
    for bias, told in ((9.0, True), (-9.0, False)):
        head.logit.bias.fill_(bias)
        save_pointer(card, head, {}, tmp_path)
        inspector = Inspector(folder=tmp_path)
        whole = inspector.inspect(photo)
        # The checkpoint is untrained: what it says of the photo is set here.
        calm = Inspector(folder=tmp_path).scan(photo, whole)
        expected = told and whole.band == "Sound"
        assert (PASSED_OVER in calm.warnings) == expected
        assert calm.evidence == told


def test_the_time_told_before_grows_with_the_photo(weights_dir):
    inspector = Inspector(folder=weights_dir)
    small, large = inspector.scan_seconds(640, 480), inspector.scan_seconds(6000, 4000)
    assert 0 < small < large


def test_a_vast_photo_is_scanned_as_its_smaller_copy_and_held_no_larger(weights_dir, monkeypatch):
    monkeypatch.setattr(scanning, "MAX_PIXELS", 1_500_000)
    photo = open_photo(encode_jpeg(wall(True, (3000, 2000), seed=4)), "tower.jpg")
    copy = open_photo(encode_png(photo.pixels(long_side_px=1500)), "tower.png")
    inspector = Inspector(folder=weights_dir)
    whole = inspector.inspect(photo)
    held = []
    tracemalloc.start()
    try:
        found = inspector.scan(
            photo, whole, lambda done, tiles: held.append(tracemalloc.get_traced_memory()[0])
        )
    finally:
        tracemalloc.stop()
    assert np.array_equal(found.grid, inspector.scan(copy).grid)
    assert max(held) < 8 * 1_500_000  # of bytes; the photo itself has three a pixel


WALL = Photo("wall.jpg", b"", "", 6000, 4000, "JPEG")


def test_what_a_fine_heat_map_says_is_read_off_without_filling_the_memory():
    grid = np.zeros((1000, 1500), np.float32)
    grid[200:300, 600:900] = 1
    tracemalloc.start()
    try:
        found = found_in(grid, WALL)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < WALL.width * WALL.height
    assert found["affected_percent"] == pytest.approx(2, abs=0.1)
    (box,) = found["regions"]
    found_box = (box.x, box.y, box.width, box.height)
    assert found_box == pytest.approx((2400, 800, 1200, 400), abs=12)


def test_of_many_places_alike_the_hottest_are_boxed():
    grid = np.zeros((1000, 1500), np.float32)
    corners = [(top, left) for top in range(50, 950, 150) for left in range(50, 1450, 150)]
    for number, (top, left) in enumerate(corners):
        grid[top : top + 40, left : left + 40] = 0.7 + 0.004 * number
    found = found_in(grid, WALL, absolute=True)
    assert found["evidence"]
    assert 1 < len(found["regions"]) < len(corners)
    for region in found["regions"]:
        inside = [
            region.x <= 4 * left < 4 * left + 160 <= region.x + region.width
            and region.y <= 4 * top < 4 * top + 160 <= region.y + region.height
            for top, left in corners
        ]
        assert sum(inside) == 1


def test_beside_a_large_crack_crumbs_get_no_box():
    grid = np.zeros((1000, 1500), np.float32)
    grid[300:360, 100:1400] = 0.9
    for left in range(0, 1500, 200):
        grid[700:710, left : left + 10] = 0.9
    assert len(found_in(grid, WALL, absolute=True)["regions"]) == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        OrtError("Failed to allocate memory for requested buffer"),
    ],
    ids=["Python", "GPU", "ONNX Runtime"],
)
def test_a_scan_that_memory_does_not_suffice_for_says_so(weights_dir, monkeypatch, error):
    inspector = Inspector(folder=weights_dir)
    photo = open_photo(crack_photo(), "tower.jpg")
    whole = inspector.inspect(photo)

    def fail(*given):
        raise error

    monkeypatch.setattr(InferenceSession, "run", fail)
    with pytest.raises(PhotoError, match=r"tower\.jpg: it needs more memory than there is; close"):
        inspector.scan(photo, whole)


def test_what_else_breaks_a_scan_is_not_taken_for_a_lack_of_memory(weights_dir):
    def stop(done, tiles):
        raise InterruptedError("stopped")

    with pytest.raises(InterruptedError, match="stopped"):
        Inspector(folder=weights_dir).scan(open_photo(crack_photo(), "tower.jpg"), on_tiles=stop)
