"""Model cards: what a checkpoint is and how well it does, readable without loading a model."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from heritage.backbones import BACKBONES, get_backbone
from heritage.errors import BackboneError, CheckpointError, one_line

CARD_VERSION = 1
WEIGHTS = ".safetensors"
LONGEST_NAME = 100
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10)),
}
ENDS = ("low", "high")
FLOAT16, INT8 = "float16", "int8 per channel"
FIGURES = {
    *("accuracy", "balanced_accuracy", "auroc", "precision", "f1", "recall_damaged"),
    *("recall_sound", "ece", "brier"),
}


def weights_dir() -> Path:
    """The folder of checkpoints: `HERITAGE_WEIGHTS` where it is set, else `weights/` here."""
    own = Path(__file__).resolve().parent.parent / "weights"
    return Path(os.environ.get("HERITAGE_WEIGHTS") or own).resolve()


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint is, how it was made, and how well it does on photos it never saw.

    Attributes:
        name: File stem, shown in the select box and used by commands.
        backbone: Registry name of the architecture.
        sha256: Hash of the weights file.
        parameters: Number of trainable scalars.
        temperature: Logits are divided by it before the sigmoid (Guo et al. 2017).
        threshold: Calibrated probability from which a photo counts as damaged in the metrics.
        unsure: Calibrated probabilities between which the answers on validation are too often
            wrong to go by them.
        precision: Number format of the stored weights.
        pruned: Share of the parameters that were removed.
        training: Configuration and course of the run that made the weights.
        data: Where the photos came from, and how many there were per split.
        metrics: Per split: n, figures with 95 % intervals, and the same per source.
        heat_maps: How fast the answer falls where the hottest places are hidden first.
        speed: Time of one inspection against that of a named peer in the same run.
        comparison: Paired tests against other models on the same photos, by model and split.
        pointing: Of a checkpoint with a head that points: the hash of its file, how it was made,
            and from which of its values on a place counts as hot.
        localisation: Per set of photos with masks: n, chance, and how well each kind of heat map
            finds the crack, with 95 % intervals.
        licence: Terms of the weights, and what they were started from.
        limits: What the model cannot see, in plain words.
        command: The command that made the checkpoint.
    """

    name: str
    backbone: str
    sha256: str
    parameters: int
    temperature: float = 1.0
    threshold: float = 0.5
    unsure: tuple[float, float] = (0.5, 0.5)
    precision: str = FLOAT16
    classes: tuple[str, ...] = ("sound", "damaged")
    input_size_px: int = 224
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pruned: float = 0.0
    training: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    heat_maps: dict[str, Any] = field(default_factory=dict)
    speed: dict[str, Any] = field(default_factory=dict)
    comparison: dict[str, Any] = field(default_factory=dict)
    pointing: dict[str, Any] = field(default_factory=dict)
    localisation: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    limits: tuple[str, ...] = ()
    command: str = ""
    created: str = ""
    version: int = CARD_VERSION

    @property
    def title(self) -> str:
        """Name for people: the architecture's, with the file's where they differ."""
        entry = get_backbone(self.backbone)
        return entry.title if self.name == entry.name else f"{entry.title} ({self.name})"


def list_cards(folder: Path | None = None) -> list[ModelCard]:
    """Cards of all checkpoints in `folder`, the best on validation first.

    Best is the highest lower end of the AUROC's interval, so that a few easy photos do not beat
    many; where the photos were also scored turned at random, the worse of the two counts. Those
    that were never scored on photos of other sources come after the others, however easy their own
    photos were. Cards that are broken or have no weights beside them are left out.
    """
    cards = []
    for path in sorted((folder or weights_dir()).glob("*.json")):
        with suppress(CheckpointError):
            if path.with_suffix(WEIGHTS).exists():
                check_name(path.stem)
                cards.append(read_card(path))
    order = list(BACKBONES)
    return sorted(
        cards,
        key=lambda card: (
            "test_other_source" not in card.metrics,
            -_validation_auroc(card),
            order.index(card.backbone),
        ),
    )


def default_name(folder: Path | None = None) -> str:
    """Name of the checkpoint the app starts with: the first of `list_cards`.

    Raises:
        CheckpointError: `folder` holds no checkpoint.
    """
    cards = list_cards(folder)
    if not cards:
        raise CheckpointError(
            "weights", "there is no checkpoint", "train one with: python -m heritage train DATA"
        )
    return cards[0].name


def file_size_mb(card: ModelCard, folder: Path | None = None) -> float:
    """Size of the weights file in MB (10⁶ bytes); 0 if it is gone."""
    try:
        return ((folder or weights_dir()) / f"{card.name}{WEIGHTS}").stat().st_size / 1e6
    except OSError:
        return 0.0


def read_card(path: Path) -> ModelCard:
    """Reads and checks the card at `path`.

    Raises:
        CheckpointError: It is missing, no JSON, or lacks a field.
    """
    try:
        # No database takes NaN in JSON; where a number is needed, its absence is refused below.
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: None)
        # Half a surrogate pair cannot be shown, 1e999 not be stored.
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
        card = card_from_values(values)
        low, high = card.unsure
        if not 0 <= low <= high <= 1:
            raise ValueError("its unsure band makes no sense")
        if not 0 < card.temperature < math.inf or not 0 <= card.threshold <= 1:
            raise ValueError("its temperature or threshold makes no sense")
        get_backbone(card.backbone)
        _check_types(card)
    except FileNotFoundError:
        raise _no_such_checkpoint(path.stem, path.parent) from None
    except (
        *(OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError),
        *(RecursionError, BackboneError),
    ) as error:
        why = one_line(str(getattr(error, "strerror", None) or error))
        raise CheckpointError(
            path.name, f"the card cannot be read ({why})", "restore the file or train again"
        ) from error
    return replace(card, name=path.stem)


def card_from_values(values: dict[str, Any]) -> ModelCard:
    """The card that `dataclasses.asdict` made `values` of; what is unknown is left out."""
    known = {f.name for f in fields(ModelCard)}
    kept = {key: value for key, value in values.items() if key in known}
    # Until 0.4.0 all photos that were held out were compared together.
    kept["comparison"] = {
        other: {"all": found} if "n" in found else found
        for other, found in values.get("comparison", {}).items()
    }
    return ModelCard(**kept)


def _check_types(card: ModelCard) -> None:
    """Raises ValueError or TypeError unless pages and commands can show every part of `card`."""
    for value, kind in (
        (card.sha256, str),
        (card.parameters, int),
        (card.input_size_px, int),
        (card.licence, str),
        (card.command, str),
        (card.created, str),
        (card.data, dict),
        (card.data.get("photos", {}), dict),
        (card.data.get("sources", []), list),
        (card.training, dict),
        (card.metrics, dict),
        (card.heat_maps, dict),
        (card.speed, dict),
        (card.comparison, dict),
        (card.pointing, dict),
        (card.localisation, dict),
        (card.precision, str),
        *((limit, str) for limit in card.limits),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    for number in (card.parameters, card.temperature, card.threshold, card.pruned):
        _check_number(number)
    more = [card.data.get(kind, 0) for kind in ("unlabelled", "rendered")]
    for number in (*card.mean, *card.std, *more):
        _check_number(number)
    for counts in card.data.get("photos", {}).values():
        for count in counts.values():
            _check_number(count)
    if not all(isinstance(source, str) for source in card.data.get("sources", [])):
        raise TypeError("a source is no name")
    for figures in card.metrics.values():
        _check_figures(figures)
        for table in (figures.get("turned", {"n": 0}), *figures.get("sources", {}).values()):
            _check_figures(table)
        if "ece_by_chance" in figures:
            for number in (figures["ece"]["value"], *map(figures["ece_by_chance"].get, ENDS)):
                _check_number(number)
        if "confusion" in figures:
            for bins in (figures["reliability"], figures["reliability_before"]):
                for found in bins:
                    for key in ("n", "probability", "damaged", *(set(ENDS) & set(found))):
                        _check_number(found[key])
                    if found["n"] < 0:
                        raise ValueError("a bin holds less than no photo")
            for count in figures["confusion"].values():
                _check_number(count)
        for mistake in figures.get("worst", []):
            str(mistake["photo"]), str(mistake["label"])
            _check_number(mistake["damage_percent"])
    if card.speed:
        _check_number(card.speed["ratio"])
        if card.speed["ratio"] <= 0 or not isinstance(card.speed["peer"], str):
            raise ValueError("its speed makes no sense")
    if card.pointing:
        _check_number(card.pointing["hot"])
        if not isinstance(card.pointing["sha256"], str) or not 0 < card.pointing["hot"] < 1:
            raise ValueError("its head that points makes no sense")
    for found in card.localisation.values():
        _check_number(found["n"])
        _check_number(found["chance"])
        if not found["methods"]:
            raise ValueError("its localisation is of no heat map")
        for figures in found["methods"].values():
            for key in ("pointing_game", "energy", "iou"):
                _check_interval(figures[key])
            _check_number(figures["seconds_a_photo"])
            if figures["seconds_a_photo"] <= 0:
                raise ValueError("its scan takes no time")
    _check_number(card.data.get("without_building", 0))
    _check_number(card.heat_maps.get("n", 0))
    for name in ("deletion", "insertion"):
        for figure in (card.heat_maps.get(name), card.heat_maps.get(f"{name}_random")):
            if isinstance(figure, dict):
                _check_interval(figure)
    for values in card.heat_maps.get("curves", {}).values():
        for value in values:
            _check_number(value)
    for splits in card.comparison.values():
        for found in splits.values():
            for key in ("n", "p", "only_this_right", "only_other_right"):
                _check_number(found[key])
            if found["n"] <= 0:
                raise ValueError("it was compared on no photos")
            _check_number(found.get("p_by_building", 0))


def _check_figures(table: dict[str, Any]) -> None:
    """Raises unless `table` holds n, and every figure by a known name is whole."""
    _check_number(table["n"])
    for name, figure in table.items():
        if name in FIGURES or (
            name != "sources" and isinstance(figure, dict) and "value" in figure
        ):
            _check_interval(figure)


def _check_interval(figure: dict[str, Any]) -> None:
    for part in ("value", "low", "high"):
        _check_number(figure[part])


def _check_number(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r:.40} is no number")


def write_card(card: ModelCard, folder: Path) -> None:
    """Writes the card beside its weights."""
    text = json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n"
    write_atomically(folder / f"{card.name}.json", text.encode())


def is_taken(name: str, folder: Path) -> bool:
    """Whether a checkpoint of this name, or one of its two files, lies in `folder`."""
    return any((folder / f"{name}{end}").exists() for end in (".json", WEIGHTS))


def is_reserved(name: str) -> bool:
    """Whether Windows takes a file of this name for a device, whatever its extension."""
    return name.partition(".")[0].strip().upper() in DEVICES


def check_name(name: str, backbone: str = "") -> None:
    """Refuses a checkpoint name that is no plain file name, and so could leave its folder.

    Args:
        backbone: What is to have this name.

    Raises:
        CheckpointError: It is empty, too long, begins like an option, holds a separator, a
            control character or one that Windows does not allow, is a device there, or, for a new
            one, is the name of another backbone or of a head that points.
    """
    if backbone and name.casefold().endswith(".pointer"):
        raise CheckpointError(
            name,
            "its file would be taken for the head that points of another",
            "choose another name",
        )
    if backbone and name in BACKBONES and name != backbone:
        raise CheckpointError(
            name, f"that is the name of another backbone than {backbone}", "choose another name"
        )
    forbidden = set('/\\:<>"|?*')
    if (
        not name.strip(". ")
        or len(name) > LONGEST_NAME
        or name.startswith("-")
        or set(name) & forbidden
        or not name.isprintable()
        or name.endswith((".", " "))
        or is_reserved(name)
    ):
        raise CheckpointError(
            name, "this is no name for a checkpoint", "use letters, digits, dots, - and _"
        )


def write_atomically(path: Path, data: bytes, partial: Path | None = None) -> None:
    """Writes `data` so that `path` always holds the old or the new content, never half of it.

    Args:
        partial: Where it is until it is whole, beside `path`; its own where two write at once.
    """
    partial = partial or path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):  # on a full disk half a file is in everybody's way
            partial.unlink(missing_ok=True)
        raise


def _no_such_checkpoint(name: str, folder: Path) -> CheckpointError:
    there = ", ".join(sorted(path.stem for path in folder.glob("*.json"))) or "none"
    if name in BACKBONES:
        advice = f"train it with: python -m heritage train DATA --backbone {name} (there: {there})"
    else:
        advice = f"choose one of: {there}"
    return CheckpointError(name, "there is no such checkpoint", advice)


def _validation_auroc(card: ModelCard) -> float:
    try:
        figures = card.metrics["validation"]
        turned = figures.get("turned", figures)
        return min(float(figures["auroc"]["low"]), float(turned["auroc"]["low"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        return -1.0
