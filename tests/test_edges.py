"""Verdicts move the bands where they are measurably off, and only there."""

import numpy as np
import pytest
from scipy.special import expit

from heritage.bands import BandThresholds
from heritage.edges import LEAST_EACH, balanced_line, moved, propose
from heritage.priority import DAMAGED, SOUND, UNSURE, PriorityRow


def judged_rows(damaged_odds, sound_odds):
    """Rows with a verdict each; what is given are the model's log odds of damage."""
    return [
        PriorityRow(f"{verdict}{n}.jpg", damage_percent=100 * float(expit(z)), verdict=verdict)
        for verdict, odds in ((DAMAGED, damaged_odds), (SOUND, sound_odds))
        for n, z in enumerate(odds)
    ]


def drawn(rng, count, *, shift=0.0, apart=3.0):
    return rng.normal(shift + apart / 2, 1, count), rng.normal(shift - apart / 2, 1, count)


def test_a_model_that_calls_everything_damaged_gets_its_line_moved_between_the_kinds():
    rows = judged_rows(*drawn(np.random.default_rng(0), 60, shift=3))
    found = propose(rows, BandThresholds())
    assert found.helps and found.gain_percent[0] > 0
    assert found.now_percent < 60 < 85 < found.then_percent
    assert (found.damaged, found.sound) == (60, 60)
    assert found.thresholds.high_percent == pytest.approx(100 * expit(3), abs=2)


def test_a_model_that_is_right_is_left_alone():
    rows = judged_rows(*drawn(np.random.default_rng(1), 60))
    assert not propose(rows, BandThresholds()).helps


def test_chance_is_seldom_called_a_certain_gain():
    certain = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rows = judged_rows(rng.normal(0, 1, 15), rng.normal(0, 1, 15))
        certain += propose(rows, BandThresholds()).gain_percent[0] > 0
    assert certain <= 10


def test_what_is_promised_holds_on_photos_without_a_verdict():
    rng = np.random.default_rng(2)
    promised, kept = [], []
    for _ in range(100):
        found = propose(judged_rows(*drawn(rng, 20, shift=2)), BandThresholds())
        odds = drawn(rng, 500, shift=2)
        at = found.thresholds.high_percent
        right = [100 * expit(odds[0]) >= at, 100 * expit(odds[1]) < at]
        promised.append(found.then_percent)
        kept.append(100 * np.mean([kind.mean() for kind in right]))
    assert np.mean(promised) == pytest.approx(np.mean(kept), abs=1.5)


def test_the_line_heeds_both_kinds_alike_however_many_there_are_of_each():
    few = np.array([80.0] * 5 + [40.0] * 5)
    many = np.array([80.0] * 500 + [40.0] * 5)
    line = balanced_line(few, np.arange(10) < 5)
    assert 40 < line < 80
    assert balanced_line(many, np.arange(505) < 500) == pytest.approx(line)


def test_too_few_of_either_kind_say_nothing():
    enough, few = np.full(40, 2.0), np.full(LEAST_EACH - 1, -2.0)
    assert propose(judged_rows(enough, few), BandThresholds()) is None
    assert propose(judged_rows(few, enough), BandThresholds()) is None
    assert propose([], BandThresholds()) is None


def test_copies_unsure_verdicts_and_unread_photos_do_not_count():
    rows = judged_rows(*drawn(np.random.default_rng(3), 20, shift=2))
    more = [
        *(PriorityRow("u.jpg", damage_percent=99.0, verdict=UNSURE) for _ in range(50)),
        *(PriorityRow("e.jpg", verdict=SOUND, error="torn") for _ in range(50)),
        *(
            PriorityRow("c.jpg", damage_percent=99.9, verdict=SOUND, duplicate_of="a.jpg")
            for _ in range(50)
        ),
    ]
    assert propose(rows + more, BandThresholds()) == propose(rows, BandThresholds())


@pytest.mark.parametrize("line", [0.0, 0.3, 5.0, 50.0, 97.0, 100.0])
@pytest.mark.parametrize("edges", [(85, 50, 20), (100, 50, 0), (60, 60, 60), (100, 100, 100)])
def test_edges_stay_in_order_wherever_the_line_goes(line, edges):
    urgent, high, watch = edges
    found = moved(BandThresholds(urgent, high, watch), line)
    assert 0 <= found.watch_percent <= found.high_percent <= found.urgent_percent <= 100


def test_moving_to_where_they_are_moves_nothing_and_there_and_back_is_home():
    usual = BandThresholds()
    assert moved(usual, usual.high_percent) == usual
    assert moved(moved(usual, 70), 50) == usual


def test_a_band_that_is_switched_off_stays_off():
    found = moved(BandThresholds(urgent_percent=100, watch_percent=0), 80)
    assert (found.urgent_percent, found.high_percent, found.watch_percent) == (100, 80, 0)


def test_certain_answers_do_not_break_the_line():
    percent = np.array([100.0] * 10 + [0.0] * 10)
    assert balanced_line(percent, np.arange(20) < 10) == pytest.approx(50)
    assert 99 < balanced_line(np.full(20, 100.0), np.arange(20) < 10) < 100
