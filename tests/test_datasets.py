from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import crack_photo, labelled_folder

from heritage.errors import DatasetError
from heritage.training.augmentation import Views
from heritage.training.datasets import (
    TRAIN,
    VALIDATION,
    PhotoCache,
    Sample,
    TrainingPhotos,
    count_by,
    read_samples,
    read_unlabelled,
    sampling_weights,
    split_off_validation,
    with_validation,
)
from heritage.training.synthetic import paint_damage


def manifest(folder, *lines):
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def split_of(samples, **fields):
    return {s.split for s in samples if all(getattr(s, k) == v for k, v in fields.items())}


def test_a_folder_gives_labels_by_class_and_groups_by_building(toy_data):
    (toy_data / "sound" / "house0" / "notes.txt").write_text("not a photo")
    crack_photo(toy_data / "sound" / "house0" / "deep" / "UPPER.JPG", cracked=False, seed=99)
    samples = read_samples(toy_data)
    assert len(samples) == 25
    assert {s.path.parent.parent.name for s in samples if s.label == 1} == {"damaged"}
    assert {s.split for s in samples} == {TRAIN}
    assert {s.source for s in samples} == {"toy"}
    assert {s.group for s in samples} == {f"house{n}" for n in range(4)}


def test_photos_of_one_building_stay_together_even_across_classes(toy_data):
    samples = with_validation(read_samples(toy_data))
    houses = {s.group for s in samples}
    assert all(len(split_of(samples, group=house)) == 1 for house in houses)


def test_a_building_is_one_however_its_name_is_spelled(tmp_path):
    composed, apart = "M\u00fcller", "Mu\u0308ller"
    crack_photo(tmp_path / "damaged" / composed / "1.jpg", seed=1)
    crack_photo(tmp_path / "sound" / apart / "2.jpg", False, seed=2)
    assert len({sample.group for sample in read_samples(tmp_path)}) == 1
    manifest(
        tmp_path,
        "path,label,group,source",
        f"damaged/{composed}/1.jpg,damaged,{composed},{composed}",
        f"sound/{apart}/2.jpg,sound,{apart},{apart}",
    )
    samples = read_samples(tmp_path)
    assert len({(sample.group, sample.source) for sample in samples}) == 1


def test_photos_of_no_known_building_are_told(tmp_path):
    crack_photo(tmp_path / "damaged" / "tower" / "1.jpg", seed=1)
    crack_photo(tmp_path / "sound" / "2.jpg", False, seed=2)
    assert [sample.lone for sample in read_samples(tmp_path)] == [True, False]
    manifest(tmp_path, "path,label,group", "damaged/tower/1.jpg,damaged,", "sound/2.jpg,sound,mill")
    assert [sample.lone for sample in read_samples(tmp_path)] == [True, False]


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such names")
def test_a_name_that_is_no_text_is_refused_before_anything_is_read(tmp_path):
    crack_photo(tmp_path / "sound" / "mill" / "1.jpg", False)
    odd = tmp_path / "damaged" / os.fsdecode(b"caf\xe9")
    odd.mkdir(parents=True)
    crack_photo(odd / "1.jpg")
    for read in (read_samples, read_unlabelled):
        with pytest.raises(DatasetError, match="its name is not in a form we can keep"):
            read(tmp_path)


def test_a_path_that_is_too_long_is_told(tmp_path):
    with pytest.raises(DatasetError, match="too long"):
        read_samples(tmp_path / ("x" * 300))


def test_copies_of_a_photo_stay_together(tmp_path):
    for n in range(5):
        for label in ("damaged", "sound"):
            for copy in range(3):
                crack_photo(tmp_path / label / f"{n}-{copy}.jpg", label == "damaged", seed=n)
    lines = [f"{p.relative_to(tmp_path)},{p.parent.name}" for p in sorted(tmp_path.rglob("*.jpg"))]
    for samples in (
        read_samples(tmp_path),
        read_samples(manifest(tmp_path, "path,label", *lines)),
    ):
        parted = with_validation(samples, share=0.4)
        content = {}
        for sample in parted:
            content.setdefault(sample.path.read_bytes(), set()).add(sample.split)
        assert len(content) == 10
        assert all(len(splits) == 1 for splits in content.values())


def test_a_manifest_gives_every_column(tmp_path):
    for n in range(4):
        crack_photo(tmp_path / "photos" / f"{n}.jpg", seed=n)
    path = manifest(
        tmp_path,
        "\ufeffpath,label,split,source,group,remark",
        "photos/0.jpg,damaged,test,archive,tower,x",
        "photos/1.jpg,sound,,,,",
        f"{tmp_path / 'photos' / '2.jpg'},sound",
        '"photos/3.jpg",damaged,validation,"Müller, 1890",gate,',
    )
    for given in (path, tmp_path):
        first, second, third, fourth = read_samples(given)
        assert first == Sample(tmp_path / "photos/0.jpg", 1.0, "test", "archive", "tower")
        assert (second.label, second.split, second.source) == (0.0, TRAIN, "")
        assert (third.path, third.split) == (tmp_path / "photos" / "2.jpg", TRAIN)
        assert (fourth.source, fourth.group) == ("Müller, 1890", "gate")
        assert second.group != third.group


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["path,label", "0.jpg,broken"], ["line 2", "'broken'", "sound, damaged"]),
        (["path,label", "0.jpg,sound", "0.jpg,"], ["line 3", "''"]),
        (["path,label", "gone.jpg,sound"], ["line 2", "no file gone.jpg"]),
        (["path,label", "0.jpg,sound", "./0.jpg,damaged"], ["line 3", "again, after line 2"]),
        (["path,label", "0.jpg,sound", "link.jpg,sound"], ["line 3", "again, after line 2"]),
        (["path,label", ",sound"], ["line 2", "no file"]),
        (["path,split", "0.jpg,train"], ["no column label"]),
        (["file;label", "0.jpg;sound"], ["no column path"]),
        (["path,label"], ["lists no photos"]),
        ([""], ["cannot be read"]),
        (["path,label", '0.jpg,"sound'], ["cannot be read"]),
        (["path,label,source", "0.jpg,sound,Archive, 1998"], ["line 2 has more fields"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_wrong_manifest_is_an_error_that_names_the_place(tmp_path, lines, words):
    crack_photo(tmp_path / "0.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "0.jpg")
    manifest(tmp_path, *lines)
    with pytest.raises(DatasetError) as caught:
        read_samples(tmp_path)
    assert caught.value.subject == "manifest.csv"
    assert all(word in str(caught.value) for word in words)


def test_a_manifest_that_is_no_text_is_an_error(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00p\x00a")
    with pytest.raises(DatasetError, match=r"manifest\.csv: it is not UTF-8"):
        read_samples(tmp_path)


def test_a_manifest_of_a_spreadsheet_with_decimal_commas_is_read(tmp_path):
    crack_photo(tmp_path / "Tür, 1.jpg")
    manifest(tmp_path, "path;label;group", "Tür, 1.jpg;damaged;mill")
    (sample,) = read_samples(tmp_path)
    assert (sample.path.name, sample.label, sample.group) == ("Tür, 1.jpg", 1.0, "mill")


def test_spaces_and_separators_that_spreadsheets_add_change_nothing(tmp_path):
    for n in range(3):
        crack_photo(tmp_path / f"{n}.jpg", seed=n)
    lines = ("0.jpg , damaged ,Train, mill", '1.jpg,sound,val,"mill ",,', ",,,", "2.jpg,sound,Test")
    manifest(tmp_path, "path, label, split,group ", *lines)
    assert [(s.path.name, s.label, s.split) for s in read_samples(tmp_path)] == [
        ("0.jpg", 1.0, TRAIN),
        ("1.jpg", 0.0, VALIDATION),
        ("2.jpg", 0.0, "test"),
    ]
    assert [s.group for s in read_samples(tmp_path)][:2] == ["mill", "mill"]


def test_without_a_photo_to_learn_from_the_splits_that_there_are_are_told(tmp_path):
    samples = [Sample(tmp_path / f"{n}.jpg", n % 2, "spring", group=str(n)) for n in range(8)]
    with pytest.raises(DatasetError, match="none is of the split train, but of spring"):
        with_validation(samples)


def test_what_no_listing_shows_is_not_learned_from(toy_data):
    before = {sample.path for sample in read_samples(toy_data)}
    for place in (".thumbnails", "@eaDir", "house0/.Trash", "__MACOSX"):
        (toy_data / "damaged" / place).mkdir(parents=True)
        crack_photo(toy_data / "damaged" / place / "0.jpg", seed=99)
    assert {sample.path for sample in read_samples(toy_data)} == before


def test_a_copy_of_a_photo_that_is_learned_from_is_not_held_out(tmp_path):
    lines = ["path,label,split,group"]
    for n in range(8):
        crack_photo(tmp_path / f"{n}.jpg", seed=n)
        split = "validation" if n < 4 else "train"
        lines.append(f"{n}.jpg,{('sound', 'damaged')[n % 2]},{split},house{n}")
    manifest(tmp_path, *lines)
    with_validation(read_samples(tmp_path))
    shutil.copy(tmp_path / "5.jpg", tmp_path / "copy.jpg")
    manifest(tmp_path, *lines, "copy.jpg,sound,validation,house9")
    with pytest.raises(
        DatasetError, match=r"copy\.jpg: it is of the split validation, and its copy"
    ):
        with_validation(read_samples(tmp_path))
    crack_photo(tmp_path / "copy.jpg", seed=50)
    with_validation(read_samples(tmp_path))


def test_a_manifest_in_the_encoding_of_windows_is_told_how_to_be_saved(tmp_path):
    (tmp_path / "manifest.csv").write_bytes("path,label\nTür.jpg,sound\n".encode("cp1252"))
    with pytest.raises(DatasetError, match="not UTF-8; save it as CSV UTF-8"):
        read_samples(tmp_path)


def test_class_folders_are_known_however_they_are_capitalised(toy_data):
    (toy_data / "damaged").rename(toy_data / "Damaged")
    assert Counter(sample.label for sample in read_samples(toy_data)) == {0.0: 12, 1.0: 12}


def test_a_missing_class_is_told_by_its_name(toy_data):
    for path in sorted((toy_data / "damaged").rglob("*.jpg"))[1:]:
        path.unlink()
    with pytest.raises(DatasetError, match="only one is damaged; add damaged ones"):
        with_validation(read_samples(toy_data))
    shutil.rmtree(toy_data / "damaged")
    with pytest.raises(DatasetError, match=r"but 0 damaged and \d+ sound ones"):
        with_validation(read_samples(toy_data))


def test_a_folder_without_photos_or_no_folder_at_all_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="no photos in subfolders damaged and sound"):
        read_samples(tmp_path)
    with pytest.raises(DatasetError, match="no such folder or manifest; check the path"):
        read_samples(tmp_path / "none")
    with pytest.raises(DatasetError, match="holds no photos"):
        read_unlabelled(tmp_path)


def test_unlabelled_photos_have_no_label_whatever_their_folder_says(toy_data):
    samples = read_unlabelled(toy_data / "damaged")
    assert len(samples) == 12
    assert all(np.isnan(s.label) and s.split == TRAIN for s in samples)
    assert count_by(samples) == {}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("damaged", "damaged_buildings", "sound", "sound_buildings"),
    [(60, 30, 12, 2), (37, 7, 6, 4), (33, 4, 10, 5), (26, 2, 36, 2), (15, 2, 11, 3)],
)
def test_both_classes_are_in_both_splits_even_if_one_has_few_buildings(
    seed, damaged, damaged_buildings, sound, sound_buildings, tmp_path
):
    rng = np.random.default_rng(0)
    samples = [
        Sample(tmp_path / f"{name}{n}", label, group=f"{name}{house}")
        for name, label, count, buildings in (
            ("house", 1.0, damaged, damaged_buildings),
            ("barn", 0.0, sound, sound_buildings),
        )
        for n, house in enumerate([*range(buildings), *rng.integers(0, buildings, count)])
    ]
    parted = with_validation(samples, seed=seed)
    assert [replace(s, split=TRAIN) for s in parted] == samples
    for label in (0.0, 1.0):
        assert split_of(parted, label=label) == {TRAIN, VALIDATION}
    assert all(len(split_of(parted, group=s.group)) == 1 for s in samples)


def test_about_the_asked_share_is_kept_for_validation(tmp_path):
    samples = [Sample(tmp_path / str(n), float(n % 2), group=str(n)) for n in range(100)]
    for share in (0.1, 0.2, 0.5):
        held = [s for s in split_off_validation(samples, share, 0) if s.split == VALIDATION]
        for label in (0, 1):
            assert 50 * share / 4 <= sum(s.label == label for s in held) <= 50 * share * 2
    assert split_off_validation(samples, 0.2, 1) == split_off_validation(samples, 0.2, 1)
    assert split_off_validation(samples, 0.2, 1) != split_off_validation(samples, 0.2, 2)


def test_photos_that_are_added_do_not_move_what_was_learned_from_into_validation(tmp_path):
    buildings = [
        Sample(tmp_path / str(n), float(n % 2), group=f"house {n // 4}") for n in range(160)
    ]
    before = split_off_validation(buildings[:120], 0.2, 0)
    after = split_off_validation(buildings, 0.2, 0)
    assert after[:120] == before
    assert {s.split for s in after[120:]} == {TRAIN, VALIDATION}


@pytest.mark.parametrize("seed", range(5))
def test_a_building_with_most_of_the_photos_is_learned_from(tmp_path, seed):
    samples = [
        Sample(tmp_path / str(n), float(n % 2), group="tower" if n < 300 else f"house {n // 10}")
        for n in range(400)
    ]
    parted = split_off_validation(samples, 0.2, seed)
    assert split_of(parted, group="tower") == {TRAIN}
    assert 8 <= sum(s.split == VALIDATION for s in parted) <= 100


def test_given_splits_are_left_as_they_are(tmp_path):
    samples = [
        Sample(tmp_path / f"{split}{n}", float(n % 2), split, group=f"of {split}")
        for split in (TRAIN, VALIDATION, "test")
        for n in range(4)
    ]
    assert with_validation(samples) == samples


@pytest.mark.parametrize("split", [VALIDATION, "test"])
def test_a_building_that_is_learned_from_is_not_in_another_split(tmp_path, split):
    given = [
        *((f"{part}{n}.jpg", n % 2, part, f"{part} {n}") for part in (TRAIN, VALIDATION, "test")
          for n in range(4)),
        ("tower.jpg", 1, TRAIN, "town hall"),
        ("stairs.jpg", 1, split, "town hall"),
    ]  # fmt: skip
    samples = [Sample(tmp_path / file, float(y), part, group=g) for file, y, part, g in given]
    with pytest.raises(DatasetError, match=r"stairs\.jpg: .*\(group town hall\) are of train"):
        with_validation(samples)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([(1.0, "a"), (0.0, "a")], "one building"),
        ([(1.0, "a"), (1.0, "b"), (1.0, "c")], "both classes"),
        ([(1.0, "a"), (1.0, "b"), (0.0, "c")], "only one is sound"),
        ([(1.0, "a"), (1.0, "b"), (0.0, "c"), (0.0, "c")], "cannot be split by building"),
    ],
)
def test_too_few_photos_to_split_are_an_error(tmp_path, samples, reason):
    listed = [Sample(tmp_path / str(n), y, group=g) for n, (y, g) in enumerate(samples)]
    with pytest.raises(DatasetError, match=reason):
        with_validation(listed)


def test_four_photos_are_enough_to_split(tmp_path):
    samples = [Sample(tmp_path / str(n), float(n % 2), group=str(n)) for n in range(4)]
    for label in (0.0, 1.0):
        assert split_of(with_validation(samples), label=label) == {TRAIN, VALIDATION}


def test_drawing_is_balanced_by_class_and_damped_by_source(tmp_path):
    kinds = [("big", 1.0)] * 90 + [("small", 1.0)] * 10 + [("big", 0.0)] * 16
    samples = [Sample(tmp_path / str(n), y, source=s) for n, (s, y) in enumerate(kinds)]
    weights = sampling_weights(samples)
    share = {
        kind: sum(w for w, k in zip(weights.tolist(), kinds, strict=True) if k == kind)
        for kind in set(kinds)
    }
    assert share["big", 1.0] + share["small", 1.0] == pytest.approx(share["big", 0.0])
    assert share["big", 1.0] / share["small", 1.0] == pytest.approx((90 / 10) ** 0.5)


def test_unlabelled_photos_are_drawn_as_a_class_of_their_own(tmp_path):
    nan = float("nan")
    labels = [1.0] * 3 + [0.0] * 5 + [nan] * 40
    weights = sampling_weights([Sample(tmp_path / str(n), y) for n, y in enumerate(labels)])
    assert weights[:3].sum() == pytest.approx(weights[3:8].sum())
    assert weights[8:].sum() == pytest.approx(weights[:3].sum())


def test_drawn_pictures_have_their_share_of_the_views_balanced_among_themselves(tmp_path):
    photos = [Sample(tmp_path / f"p{n}", float(n < 10), source="photos") for n in range(40)]
    drawn = [Sample(tmp_path / f"r{n}", float(n < 2), rendered=True) for n in range(10)]
    weights = sampling_weights([*photos, *drawn], rendered_share=0.3)
    assert float(weights[40:].sum() / weights.sum()) == pytest.approx(0.3)
    for part, samples in ((weights[:40], photos), (weights[40:], drawn)):
        damaged = torch.tensor([sample.label == 1 for sample in samples])
        assert float(part[damaged].sum()) == pytest.approx(float(part[~damaged].sum()))
    assert torch.equal(sampling_weights(photos, rendered_share=0.3), sampling_weights(photos))


def test_counts_are_per_split_and_class(tmp_path):
    samples = [
        Sample(tmp_path / "a", 1.0),
        Sample(tmp_path / "b", 1.0, "test"),
        Sample(tmp_path / "c", float("nan")),
    ]
    assert count_by(samples) == {
        "train": {"sound": 0, "damaged": 1},
        "test": {"sound": 0, "damaged": 1},
    }


def test_warming_names_every_unreadable_photo_at_once(toy_data):
    broken = ["damaged/house0/0.jpg", "sound/house3/3.jpg"]
    (toy_data / broken[0]).write_bytes(b"not a photo")
    cut = (toy_data / broken[1]).read_bytes()
    (toy_data / broken[1]).write_bytes(cut[: len(cut) // 2])
    seen = []
    with pytest.raises(DatasetError) as caught:
        PhotoCache(64).warm(read_samples(toy_data), lambda: seen.append(1))
    assert "2 photos" in str(caught.value)
    assert all(f"{name}: " in str(caught.value) for name in broken)
    assert len(seen) == 24


@pytest.mark.parametrize("limit", [0, 10**9])
def test_a_cache_gives_the_same_pixels_with_and_without_room(tmp_path, limit):
    crack_photo(tmp_path / "a.png", size=(300, 200), seed=1)
    cache = PhotoCache(100, limit_bytes=limit)
    first, again = cache.pixels(tmp_path / "a.png"), cache.pixels(tmp_path / "a.png")
    assert first.shape == (100, 150, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again)


def test_what_was_decoded_once_is_not_read_again(tmp_path):
    crack_photo(tmp_path / "a.jpg")
    cache = PhotoCache(64)
    kept = cache.pixels(tmp_path / "a.jpg").copy()
    (tmp_path / "a.jpg").unlink()
    assert np.array_equal(cache.pixels(tmp_path / "a.jpg"), kept)


def test_training_photos_are_square_views_with_their_labels(tmp_path):
    labelled_folder(tmp_path, per_class=1, size=(300, 150))
    samples = read_samples(tmp_path)
    photos = TrainingPhotos(samples, PhotoCache(150), Views(96))
    torch.manual_seed(0)
    assert len(photos) == 2
    for _ in range(20):
        for index, sample in enumerate(samples):
            view, label, asked = photos[index]
            assert view.shape == (3, 96, 96) and view.dtype == torch.uint8
            assert label.item() == sample.label and asked


PLAIN = {"turned_share": 0.0, "rotation_degrees": 0.0, "jitter": 0.0}
RAMP = torch.arange(200).to(torch.uint8).expand(3, 200, 200)  # brighter to the right


def brightness_range(label):
    """How much of the ramp a view holds, largest and smallest of 40 views."""
    views = Views(64, smallest_crop=0.9, smallest_crop_sound=0.01, **PLAIN)
    spans = []
    for _ in range(40):
        row = views.draw(RAMP, label)[0].float().mean((0, 1))
        spans.append(float(row.max() - row.min()))
    return min(spans), max(spans)


def test_damaged_photos_are_cropped_less_than_sound_and_unlabelled_ones():
    torch.manual_seed(0)
    assert brightness_range(1.0)[0] > 150
    assert brightness_range(0.0)[0] < 60
    assert brightness_range(float("nan"))[0] < 60


def test_quarter_turns_show_every_orientation_alike():
    torch.manual_seed(0)
    views = Views(64, smallest_crop_sound=1.0, **PLAIN | {"turned_share": 1.0})
    seen = Counter()
    for _ in range(400):
        view = views.draw(RAMP, 0.0)[0].float().mean(0)
        across = float(view[:, -8:].mean() - view[:, :8].mean())
        down = float(view[-8:].mean() - view[:8].mean())
        seen["right" if across > 100 else "left" if across < -100 else
             "down" if down > 100 else "up" if down < -100 else "?"] += 1  # fmt: skip
    assert set(seen) == {"right", "left", "down", "up"}
    assert min(seen.values()) > 70


def test_damage_is_painted_on_the_asked_share_of_sound_photos_and_on_no_other():
    torch.manual_seed(0)
    wall = torch.full((3, 120, 160), 170, dtype=torch.uint8)
    views = Views(64, painted_share=0.3, **PLAIN)
    drawn = [views.draw(wall, 0.0) for _ in range(300)]
    changed = [bool((view.float() - view.float().median()).abs().max() > 8) for view, _ in drawn]
    assert sum(label for _, label in drawn) == pytest.approx(90, abs=25)
    agree = [bool(label) == seen for (_, label), seen in zip(drawn, changed, strict=True)]
    assert sum(agree) >= 290, "a painted view is damaged, an untouched one sound"
    for label in (1.0, float("nan")):
        for _ in range(30):
            view, told = views.draw(wall, label)
            assert view.float().std() < 1
            assert told == label or told != told


@pytest.mark.parametrize("side", [8, 40, 224])
def test_painting_is_repeatable_and_leaves_the_photo_alone(side):
    wall = np.full((side, side, 3), 140, dtype=np.uint8)
    before = wall.copy()
    for seed in range(30):
        painted = paint_damage(wall, np.random.default_rng(seed))
        again = paint_damage(wall, np.random.default_rng(seed))
        assert painted.shape == wall.shape and painted.dtype == np.uint8
        assert np.array_equal(painted, again)
    assert np.array_equal(wall, before)


def test_views_keep_the_aspect_of_what_they_show():
    pixels = torch.full((3, 200, 600), 255, dtype=torch.uint8)
    pixels[:, 80:120, 280:320] = 0  # a square on a wide wall stays as wide as high
    views = Views(128, rotation_degrees=0, jitter=0)
    torch.manual_seed(0)
    checked = 0
    for _ in range(60):
        dark = views.draw(pixels, 1.0)[0].float().mean(0) < 128
        rows, columns = dark.any(1).nonzero().flatten(), dark.any(0).nonzero().flatten()
        if not len(rows) or rows[0] == 0 or rows[-1] == 127 or columns[0] == 0:
            continue
        if columns[-1] < 127:
            checked += 1
            assert len(rows) == pytest.approx(len(columns), abs=4)
    assert checked >= 10


def test_drawing_is_balanced_as_the_network_sees_it_when_damage_is_painted(tmp_path):
    samples = [Sample(tmp_path / str(n), float(n < 3)) for n in range(10)]
    weights = sampling_weights(samples, painted_share=0.25)
    damaged, sound = weights[:3].sum(), weights[3:].sum()
    assert damaged + 0.25 * sound == pytest.approx(0.75 * sound)
