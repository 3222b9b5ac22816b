"""Labelled photos: a folder with a subfolder per class, or a manifest; split without leakage."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor
from torch.utils.data import Dataset

from heritage.errors import DatasetError, PhotoError, one_line
from heritage.figures import KNOWN, OTHER, counted
from heritage.photos import SUFFIXES, open_photo
from heritage.sources import is_hidden
from heritage.training.augmentation import Views
from heritage.words import short_path

CLASSES = ("sound", "damaged")
TRAIN, VALIDATION = "train", "validation"
SPLIT_NAMES = {name: name for name in (TRAIN, VALIDATION, KNOWN, OTHER)} | {
    "val": VALIDATION,
    "valid": VALIDATION,
    "training": TRAIN,
}
RENDERED = "rendered"  # the source of what was drawn
RENDERED_CROP = 0.6  # least share of a drawn view in a crop: its damage may lie anywhere
CACHE_LIMIT_BYTES = 2 * 2**30
UNREADABLE_NAMED = 20
LONGEST_HEADING = 10_000  # bytes


@dataclass(frozen=True)
class Sample:
    """One labelled photo.

    Attributes:
        path: The photo's file.
        label: 1.0 damaged, 0.0 sound, NaN for a photo only a teacher labels.
        split: `train`, `validation`, or the name of a held-out set.
        source: Collection the photo came from; figures are also reported per source.
        group: Building, scene or frame; a group never crosses splits.
        lone: Whether nothing tells which building it shows; its group is its content then.
        rendered: Whether it was drawn by a program. A teacher that knows photos is not asked.
    """

    path: Path
    label: float
    split: str = TRAIN
    source: str = ""
    group: str = ""
    lone: bool = False
    rendered: bool = False


def read_samples(data: Path) -> list[Sample]:
    """Reads a labelled folder or manifest.

    A folder holds `damaged/` and `sound/`; subfolders of these are buildings and stay together,
    with all that is below them.
    A manifest is a CSV with `path` and `label`, and optionally `split`, `source` and `group`;
    a folder that contains `manifest.csv` is read through it.

    Raises:
        DatasetError: No photos, an unknown label, a missing column or file, or one that cannot be
            opened.
    """
    try:
        manifest = data / "manifest.csv" if data.is_dir() else data
        if manifest.is_file():
            return _read_manifest(manifest)
        if data.is_dir():
            return _read_class_folders(data)
    except OSError as error:
        raise DatasetError(
            str(data), f"it cannot be read ({error.strerror})", "check the path and the permissions"
        ) from error
    raise DatasetError(str(data), "there is no such folder or manifest", "check the path")


def with_validation(samples: list[Sample], *, share: float = 0.2, seed: int = 0) -> list[Sample]:
    """Makes sure that `samples` can be trained on: both classes in `train` and `validation`.

    Where there is no validation split, one is taken from `train`.

    Raises:
        DatasetError: One of the two splits lacks a class, all photos are of one building, or a
            building is in `train` and in another split.
    """
    if samples and not any(sample.split == TRAIN for sample in samples):
        splits = ", ".join(sorted({one_line(sample.split) for sample in samples}))
        raise DatasetError(
            "the photos", f"none is of the split {TRAIN}, but of {splits}", "name one of them so"
        )
    if not any(sample.split == VALIDATION for sample in samples):
        samples = split_off_validation(samples, share, seed)
    for split in (TRAIN, VALIDATION):
        check_both_classes(samples, split)
    _check_whole_groups(samples)
    _check_copies(samples)
    return samples


def _check_copies(samples: Sequence[Sample]) -> None:
    """Raises a DatasetError if a photo that is trained on is, under another name, held out too."""
    of_size: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        with suppress(OSError):  # told when it is read
            of_size[sample.path.stat().st_size].append(sample)
    for alike in of_size.values():
        if len({sample.split == TRAIN for sample in alike}) == 1:
            continue
        learned = {_content(s.path): s.path for s in alike if s.split == TRAIN}
        for sample in alike:
            if sample.split != TRAIN and (copy := learned.get(_content(sample.path))):
                raise DatasetError(
                    one_line(short_path(sample.path)),
                    f"it is of the split {one_line(sample.split)}, and its copy "
                    f"{one_line(short_path(copy))} of {TRAIN}",
                    "keep one of the two, or put both into one building",
                )


def _check_whole_groups(samples: Sequence[Sample]) -> None:
    """Raises a DatasetError if a group that is trained on is in another split too."""
    learned = {sample.group for sample in samples if sample.split == TRAIN}
    for sample in samples:
        if sample.split != TRAIN and sample.group in learned:
            raise DatasetError(
                one_line(sample.path.name),
                f"it is of the split {one_line(sample.split)}, but others of its building "
                f"(group {one_line(sample.group)}) are of {TRAIN}",
                "give all photos of a building the same split",
            )


def check_both_classes(samples: Sequence[Sample], split: str) -> None:
    """Raises a DatasetError unless the photos of `split` are damaged ones and sound ones."""
    of = Counter(sample.label for sample in samples if sample.split == split)
    if not (of[0.0] and of[1.0]):
        raise DatasetError(
            f"the {split} photos",
            f"they do not hold both classes, but {of[1.0]} damaged and {of[0.0]} sound ones",
            "add damaged and sound photos of several buildings",
        )


def split_off_validation(samples: Sequence[Sample], share: float, seed: int) -> list[Sample]:
    """Moves about `share` of the train photos to `validation`, stratified, whole groups only.

    Each group is drawn by itself, so that photos that are added later leave the others where they
    are: what a checkpoint learned from must not validate the one that goes on from it. Only where
    that leaves a class with less than a quarter or more than twice its share, as with few groups,
    are they split by folds instead, and the fold taken that comes closest.
    """
    train = [i for i, sample in enumerate(samples) if sample.split == TRAIN]
    labels = [samples[i].label for i in train]
    groups = [samples[i].group for i in train]
    if len(set(groups)) < 2:
        raise DatasetError(
            "the photos", "all belong to one building", "add photos of other buildings"
        )
    counts = Counter(labels)
    rarest = min(counts.values())
    if rarest < 2:
        lone = CLASSES[int(min(counts, key=lambda label: counts[label]))]
        raise DatasetError("the photos", f"only one is {lone}", f"add {lone} ones")

    def distance(held: Sequence[int]) -> float:
        """Logarithm of how many times too few photos of a class are held out, or twice that of
        how many times too many: these are missing where one learns."""
        taken = Counter(labels[i] for i in held)
        if any(not 0 < taken[label] < counts[label] for label in counts):
            return float("inf")
        excess = [math.log(taken[label] / counts[label] / share) for label in counts]
        return max(2 * max(excess), -min(excess))

    chosen = [i for i, group in enumerate(groups) if _lot(f"{seed}/{group}") < share]
    if distance(chosen) > 2 * math.log(2):
        folds = min(max(2, round(1 / share)), len(set(groups)), rarest)
        chosen = min(
            (
                [int(i) for i in held]
                for count in range(2, folds + 1)
                for _, held in StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(
                    np.zeros(len(train)), labels, groups
                )
            ),
            key=distance,
        )
    if distance(chosen) == float("inf"):
        raise DatasetError(
            "the photos",
            "the two classes cannot be split by building",
            "add damaged and sound photos of several buildings",
        )
    moved = {train[i] for i in chosen}
    return [replace(s, split=VALIDATION) if i in moved else s for i, s in enumerate(samples)]


def _lot(text: str) -> float:
    """A number in [0, 1) that `text` alone decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def read_unlabelled(folder: Path) -> list[Sample]:
    """Photos below `folder` for a teacher to label; their folder names say nothing of damage."""
    try:
        paths = _photo_files(folder)
    except OSError as error:
        raise DatasetError(
            str(folder), f"it cannot be read ({error.strerror})", "check the permissions"
        ) from error
    if not paths:
        raise DatasetError(str(folder), "it holds no photos", "check the path")
    return [Sample(path, float("nan"), source="unlabelled", group=path.stem) for path in paths]


def read_rendered(folder: Path) -> list[Sample]:
    """Pictures that a program drew, labelled as photos are.

    Those of their own validation split, if they have one, help to choose the epoch that is kept;
    no figure and no temperature comes from them.

    Raises:
        DatasetError: As `read_samples`.
    """
    return [
        replace(sample, source=RENDERED, rendered=True)
        for sample in read_samples(folder)
        if sample.split in (TRAIN, VALIDATION)
    ]


def without(held: Iterable[Sample], samples: Iterable[Sample]) -> list[Sample]:
    """`samples` but those with the bytes of one of `held`: what is held out must not be learned
    from by another way."""
    known = {_content(sample.path) for sample in held}
    return [sample for sample in samples if _content(sample.path) not in known]


def count_by(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    """Number of damaged and sound photos per split, for cards and progress lines."""
    counts = Counter((s.split, CLASSES[int(s.label)]) for s in samples if s.label == s.label)
    splits = sorted({split for split, _ in counts})
    return {split: {name: counts[split, name] for name in CLASSES} for split in splits}


def no_building_text(lone: int) -> str:
    """What it means for the figures that so many photos are of no known building."""
    return (
        f"Nothing tells which building {counted(lone)} of the labelled ones showed: photos of one "
        "building may be both among those learned from and those kept aside, which flatters."
    )


def sampling_weights(
    samples: Sequence[Sample], painted_share: float = 0.0, rendered_share: float = 0.0
) -> Tensor:
    """Weights (N,) that balance the classes, and the sources within a class by the square root.

    A network fed sources in proportion to their size learns the big source, not the damage.

    Args:
        painted_share: Share of the sound views that become damaged ones; the classes are
            balanced as the network sees them.
        rendered_share: Share of the views that are of drawn pictures, where there are any.
    """
    drawn = torch.tensor([sample.rendered for sample in samples])
    if not drawn.any():
        return _balancing(samples, painted_share)
    weights = torch.zeros(len(samples), dtype=torch.double)
    for which, share, painted in (
        (~drawn, 1 - rendered_share, painted_share),
        (drawn, rendered_share, 0.0),
    ):
        part = _balancing([samples[i] for i in which.nonzero().flatten().tolist()], painted)
        weights[which] = share * part / part.sum()
    return weights


def _balancing(samples: Sequence[Sample], painted_share: float) -> Tensor:
    keys = [(s.source, s.label if s.label == s.label else -1.0) for s in samples]
    counts = Counter(keys)
    mass = Counter({key: count**0.5 for key, count in counts.items()})
    per_label: dict[float, float] = defaultdict(float)
    for (_, label), value in mass.items():
        per_label[label] += value
    per_label[1.0] *= 1 / (1 - 2 * painted_share)
    weights = [mass[key] / counts[key] / per_label[key[1]] for key in keys]
    return torch.tensor(weights, dtype=torch.double)


class PhotoCache:
    """Decoded photos at a fixed short side, kept in memory up to a limit, decoded again beyond."""

    def __init__(self, short_side_px: int, limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
        self.short_side_px = short_side_px
        self._left = limit_bytes
        self._kept: dict[Path, np.ndarray] = {}

    def pixels(self, path: Path) -> np.ndarray:
        """Upright RGB (h, w, 3) uint8, short side at most `short_side_px`."""
        kept = self._kept.get(path)
        if kept is None:
            kept = self._make(path)
            if kept.nbytes <= self._left:
                self._left -= kept.nbytes
                self._kept[path] = kept
        return kept

    def _make(self, path: Path) -> np.ndarray:
        return open_photo(path).pixels(short_side_px=self.short_side_px)

    def warm(self, samples: Sequence[Sample], on_each: Callable[[], None] = lambda: None) -> None:
        """Decodes all photos once, so that an unreadable one stops the run before it starts.

        Raises:
            DatasetError: Photos that cannot be read; all of them are named.
        """
        broken = []
        for sample in samples:
            try:
                self.pixels(sample.path)
            except PhotoError as error:
                where = [part for part in sample.path.parts[:-1] if part != sample.path.anchor]
                # By class and building.
                broken.append("/".join([*map(one_line, where[-2:]), str(error)]))
            on_each()
        if broken:
            shown = "\n  ".join(broken[:UNREADABLE_NAMED])
            if len(broken) > UNREADABLE_NAMED:
                shown += f"\n  and {len(broken) - UNREADABLE_NAMED} more"
            raise DatasetError(
                counted(len(broken)), f"they cannot be read:\n  {shown}\n", "remove them"
            )


class TrainingPhotos(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Augmented crops (3, S, S) uint8, their labels () float32, and () bool: a teacher is asked."""

    def __init__(
        self,
        samples: Sequence[Sample],
        cache: PhotoCache,
        views: Views,
    ) -> None:
        self.samples = samples
        self.cache = cache
        self.views = views
        crop = max(RENDERED_CROP, views.smallest_crop)
        self._of_rendered = replace(views, smallest_crop=crop, painted_share=0.0)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        sample = self.samples[index]
        pixels = torch.from_numpy(self.cache.pixels(sample.path)).permute(2, 0, 1)
        views = self._of_rendered if sample.rendered else self.views
        view, label = views.draw(pixels, sample.label)
        return view, torch.tensor(label, dtype=torch.float32), torch.tensor(not sample.rendered)


def _read_manifest(path: Path) -> list[Sample]:
    samples: list[Sample] = []
    listed: dict[str, int] = {}
    for number, row in _rows(path):
        if row["label"] not in CLASSES:
            raise DatasetError(
                path.name,
                f"line {number} has the label '{one_line(row['label'])}'",
                f"use one of {', '.join(CLASSES)}",
            )
        file = path.parent / row["path"]
        if not _is_file(file):
            raise DatasetError(
                path.name, f"line {number}: no file {one_line(row['path'])}", "mend the path"
            )
        real = _composed(os.path.normcase(os.path.realpath(file)))
        if (before := listed.setdefault(real, number)) != number:
            raise DatasetError(
                path.name,
                f"line {number} lists {one_line(row['path'])} again, after line {before}",
                "keep one of the two",
            )
        group = _composed(row.get("group") or "")
        split = row.get("split") or TRAIN
        samples.append(
            Sample(
                file,
                float(CLASSES.index(row["label"])),
                SPLIT_NAMES.get(split.casefold(), split),
                _composed(row.get("source") or ""),
                group or _content(file),
                lone=not group,
            )
        )
    if not samples:
        raise DatasetError(path.name, "it lists no photos", "add lines")
    return samples


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and cells, by their heading, of each line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            reader = csv.reader(
                file, delimiter=_separator(path), skipinitialspace=True, strict=True
            )
            heading = [name.strip() for name in next(reader, [])]
            if not heading:
                raise DatasetError(path.name, "it cannot be read (it is empty)", "save it as CSV")
            if missing := {"path", "label"} - set(heading):
                raise DatasetError(
                    path.name,
                    f"it has no column {', '.join(sorted(missing))}",
                    "add it to the first line",
                )
            for cells in reader:
                row = [cell.strip() for cell in cells]
                # Spreadsheets may end lines in a separator too many.
                if any(row[len(heading) :]):
                    raise DatasetError(
                        path.name,
                        f"line {reader.line_num} has more fields than the first line",
                        'put texts that hold a separator into quotes (")',
                    )
                if any(row):
                    row += [""] * (len(heading) - len(row))
                    # Of two columns with one name the first counts.
                    named = list(zip(heading, row, strict=False))
                    yield reader.line_num, dict(reversed(named))
    except UnicodeDecodeError as error:
        raise DatasetError(path.name, "it is not UTF-8", "save it as CSV UTF-8") from error
    except (OSError, csv.Error) as error:
        why = one_line(str(getattr(error, "strerror", None) or error).strip())
        raise DatasetError(path.name, f"it cannot be read ({why})", "save it as CSV") from error


def _separator(path: Path) -> str:
    """A comma, or the semicolon of spreadsheets where the comma is that of decimals."""
    with path.open("rb") as file:
        heading = file.readline(LONGEST_HEADING)
    return ";" if heading.count(b";") > heading.count(b",") else ","


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its name is too long for any file
        return False


def _read_class_folders(folder: Path) -> list[Sample]:
    samples = []
    homes = [home for home in sorted(folder.iterdir()) if home.name.lower() in CLASSES]
    for home in sorted(homes, key=lambda home: CLASSES.index(home.name.lower())):
        label = CLASSES.index(home.name.lower())
        for path in _photo_files(home):
            inner = path.relative_to(home).parts[:-1]
            # Whatever is deeper is of that building.
            group = _composed(inner[0]) if inner else _content(path)
            source = _composed(folder.name)
            samples.append(Sample(path, float(label), TRAIN, source, group, lone=not inner))
    if not samples:
        raise DatasetError(
            str(folder),
            "it holds no photos in subfolders damaged and sound",
            "make these two subfolders, or a manifest.csv",
        )
    return samples


def _composed(name: str) -> str:
    """One spelling of a name, as Macs write letters with accents in two parts."""
    return unicodedata.normalize("NFC", name)


def _content(path: Path) -> str:
    """Group of a photo of no known building: copies of it under other names share it."""
    try:
        found = path.stat()
        return _hash(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        reason = f"it cannot be opened ({error.strerror})"
        raise DatasetError(path.name, reason, "check your permissions") from error


@lru_cache(maxsize=200_000)
def _hash(path: Path, size: int, changed_ns: int) -> str:
    """SHA-256 of a file, read again once its size or time is another."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _photo_files(folder: Path) -> list[Path]:
    suffixes = {f".{suffix}" for suffix in SUFFIXES}
    found = sorted(
        path
        for path in folder.rglob("*")
        # Thumbnails, waste baskets, and what macOS leaves as ._tower.jpg are no photos.
        if path.suffix.lower() in suffixes
        and not is_hidden(path.relative_to(folder).as_posix())
        and path.is_file()
    )
    for path in found:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise DatasetError(
                str(path), "its name is not in a form we can keep", "give it another name"
            ) from None
    return found
