import numpy as np
import pytest

from heritage.overlays import (
    COLOUR_MAPS,
    Region,
    affected_percent,
    blend,
    coarsened,
    colour_heat,
    colour_table,
    find_regions,
)


def two_spots() -> np.ndarray:
    heat = np.zeros((60, 80), np.float32)
    heat[10:20, 10:30] = 1.0
    heat[40:50, 60:70] = 0.6
    return heat


def test_regions_are_boxed_in_photo_pixels_with_the_hottest_first():
    regions = find_regions(two_spots(), width=800, height=600)
    assert regions[0] == Region(100, 100, 200, 100, pytest.approx(76.9, abs=0.1))
    assert regions[1] == Region(600, 400, 100, 100, pytest.approx(23.1, abs=0.1))


def test_spots_that_touch_at_a_corner_are_one_region():
    heat = np.zeros((40, 40))
    heat[0:10, 0:10] = heat[10:20, 10:20] = 1
    assert find_regions(heat, 40, 40) == (Region(0, 0, 20, 20, 100.0),)


def test_crumbs_of_heat_are_no_region():
    heat = two_spots()
    heat[0, 0] = 0.9
    assert len(find_regions(heat, 80, 60)) == 2


@pytest.mark.parametrize("shape", [(1000, 1500), (1000, 3000), (500, 5000), (65, 64)])
def test_in_coarse_cells_a_hot_place_stays_where_it_is(shape):
    height, width = shape
    for row, column in ((0, 0), (height - 6, width - 6), (height // 3, width // 2)):
        heat = np.zeros(shape, np.float32)
        heat[row : row + 6, column : column + 6] = 1
        coarse = coarsened(heat, 64)
        assert max(coarse.shape) <= 64
        (box,) = find_regions(coarse, width, height)
        cell = 1 + max(height / coarse.shape[0], width / coarse.shape[1])
        assert box.y - 1 <= row and row + 6 <= box.y + box.height + 1
        assert box.x - 1 <= column and column + 6 <= box.x + box.width + 1
        assert box.height <= 6 + 2 * cell and box.width <= 6 + 2 * cell


def test_no_heat_is_no_region_and_no_area():
    assert find_regions(np.zeros((5, 5)), 50, 50) == ()
    assert affected_percent(np.zeros((5, 5))) == 0


def test_affected_area_counts_pixels_at_or_above_the_hot_threshold():
    heat = np.zeros((10, 10))
    heat[:2] = 0.5
    heat[2] = 0.49
    assert affected_percent(heat) == pytest.approx(20)


@pytest.mark.parametrize("name", COLOUR_MAPS)
def test_every_colour_map_has_256_colours_and_two_ends(name):
    table = colour_table(name)
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    assert np.abs(table[0].astype(int) - table[255]).sum() > 100


def test_the_default_colours_get_lighter_with_heat_so_that_colour_blind_eyes_can_order_them():
    luminance = colour_table(next(iter(COLOUR_MAPS))) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance[::8]) > 0).all()


def test_opacity_zero_shows_the_photo_and_one_the_heat():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    heat = rng.random((30, 40)).astype(np.float32)
    assert np.array_equal(blend(photo, heat, opacity=0), photo)
    assert np.array_equal(blend(photo, heat, opacity=1), colour_heat(heat, "inferno")[..., :3])
    half = blend(photo, heat, opacity=0.5).astype(float)
    expected = (photo.astype(float) + colour_heat(heat, "inferno")[..., :3]) / 2
    assert np.abs(half - expected).max() <= 0.51


def test_hot_only_keeps_cold_places_in_their_own_colours():
    photo = np.full((10, 10, 3), 90, np.uint8)
    heat = np.zeros((10, 10), np.float32)
    heat[4:6, 4:6] = 1
    out = blend(photo, heat, opacity=1, hot_only=True)
    assert (out[:3] == 90).all()
    assert (out[4, 4] == colour_table("inferno")[255]).all()
