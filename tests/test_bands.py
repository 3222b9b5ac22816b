import pytest

from heritage.bands import BANDS, BandThresholds


@pytest.mark.parametrize(
    ("percent", "name"),
    [
        (100, "Urgent"),
        (85, "Urgent"),
        (84.99, "High"),
        (50, "High"),
        (20, "Watch"),
        (19.9, "Sound"),
        (0, "Sound"),
    ],
)
def test_a_band_begins_at_its_threshold(percent, name):
    assert BandThresholds().band(percent).name == name


def test_moved_thresholds_move_the_bands():
    assert BandThresholds(60, 40, 10).band(60).name == "Urgent"


NAN = float("nan")
OF_NAN = [(NAN, 50, 20), (85, NAN, 20), (85, 50, NAN)]


@pytest.mark.parametrize("values", [(50, 60, 20), (101, 50, 20), (85, 50, -1), *OF_NAN])
def test_thresholds_that_do_not_rise_are_refused(values):
    with pytest.raises(ValueError, match="rise"):
        BandThresholds(*values)


def test_bands_differ_in_word_and_icon_not_only_in_colour():
    assert len({band.icon for band in BANDS.values()}) == len(BANDS)
    assert len({band.name for band in BANDS.values()}) == len(BANDS)
