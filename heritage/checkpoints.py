"""Checkpoints: weights as safetensors, everything a reader must know about them in a JSON card."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from heritage.backbones import (
    BACKBONES,
    Backbone,
    DamageClassifier,
    build_classifier,
    get_backbone,
)
from heritage.errors import BackboneError, CheckpointError

WEIGHTS_DIR = Path(__file__).resolve().parent.parent / "weights"
CARD_VERSION = 1


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
        precision: Number format of the stored weights.
        training: Configuration and course of the run that made the weights.
        data: Where the photos came from, and how many there were per split.
        metrics: Per split: n, figures with 95 % intervals, and the same per source.
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
    precision: str = "float16"
    classes: tuple[str, ...] = ("sound", "damaged")
    input_size_px: int = 224
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
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


@dataclass(frozen=True)
class Checkpoint:
    """A loaded classifier in evaluation mode, its weights frozen, and its card."""

    model: DamageClassifier
    backbone: Backbone
    card: ModelCard


def list_cards(folder: Path = WEIGHTS_DIR) -> list[ModelCard]:
    """Cards of all checkpoints in `folder`, best validation AUROC first; broken cards left out."""
    cards = []
    for path in sorted(folder.glob("*.json")):
        try:
            cards.append(read_card(path))
        except CheckpointError:
            continue
    order = list(BACKBONES)
    return sorted(cards, key=lambda card: (-_validation_auroc(card), order.index(card.backbone)))


def default_name(folder: Path = WEIGHTS_DIR) -> str:
    """Name of the checkpoint the app starts with: the best on validation.

    Raises:
        CheckpointError: `folder` holds no checkpoint.
    """
    cards = list_cards(folder)
    if not cards:
        raise CheckpointError(
            folder.name, "it holds no checkpoint", "train one with: python -m heritage train DATA"
        )
    return cards[0].name


def read_card(path: Path) -> ModelCard:
    """Reads and checks the card at `path`.

    Raises:
        CheckpointError: It is missing, no JSON, or lacks a field.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        known = {f.name for f in fields(ModelCard)}
        card = ModelCard(**{key: value for key, value in raw.items() if key in known})
        float(card.temperature), float(card.threshold), str(card.sha256)
        get_backbone(card.backbone)
    except FileNotFoundError:
        raise _no_such_checkpoint(path.stem, path.parent) from None
    except (OSError, ValueError, TypeError, AttributeError, BackboneError) as error:
        raise CheckpointError(
            path.name, f"the card cannot be read ({error})", "restore the file or train again"
        ) from error
    return card


def load_checkpoint(name: str, folder: Path = WEIGHTS_DIR) -> Checkpoint:
    """Loads the checkpoint called `name`, its hash checked against its card.

    Raises:
        CheckpointError: It is missing, damaged, or does not fit its backbone.
    """
    card = read_card(folder / f"{name}.json")
    path = folder / f"{name}.safetensors"
    try:
        data = path.read_bytes()
    except OSError:
        raise CheckpointError(
            path.name, "the card is there but the weights are not", "restore the file"
        ) from None
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise CheckpointError(
            path.name, "its hash is not the one in its card", "restore both files together"
        )
    backbone = get_backbone(card.backbone)
    model = build_classifier(backbone)
    _fill(model, parse_weights(data, path.name), path.name)
    model.requires_grad_(False).eval()
    return Checkpoint(model, backbone, card)


def parse_weights(data: bytes, name: str) -> dict[str, Tensor]:
    """Parses safetensors bytes into float32 tensors (integers stay integers).

    Raises:
        CheckpointError: The bytes are no safetensors file, or hold values that are not finite.
    """
    try:
        tensors = load(data)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            name, f"it is no safetensors file ({error})", "weights are never read from pickles"
        ) from error
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(name, f"{key} holds values that are not finite", "train again")
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def load_features(model: DamageClassifier, path: Path) -> None:
    """Starts `model.features` from the weights at `path`, in place; the head is left alone.

    `path` is one of our checkpoints or a safetensors file with torchvision's own key names.

    Raises:
        CheckpointError: The file cannot be read or does not fit the backbone.
    """
    try:
        tensors = parse_weights(path.read_bytes(), path.name)
    except OSError as error:
        raise CheckpointError(path.name, "it cannot be opened", "check the path") from error
    if not any(key.startswith("features.") for key in tensors):
        tensors = {f"features.{key}": value for key, value in tensors.items()}
    prefix = "features."
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    wanted = model.features.state_dict()
    own = {k: v for k, v in own.items() if k in wanted}
    _fill(model.features, own, path.name)


def save_checkpoint(model: DamageClassifier, card: ModelCard, folder: Path) -> ModelCard:
    """Writes `NAME.safetensors` (float16, batch-norm statistics float32) and `NAME.json`.

    Returns:
        The card with the weights' hash and number of parameters filled in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = save(compact(model.state_dict()))
    entry = get_backbone(card.backbone)
    values = asdict(card) | {
        "sha256": hashlib.sha256(data).hexdigest(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "input_size_px": entry.input_size_px,
        "mean": entry.mean,
        "std": entry.std,
    }
    card = ModelCard(**values)
    write_atomically(folder / f"{card.name}.safetensors", data)
    write_card(card, folder)
    return card


def write_card(card: ModelCard, folder: Path) -> None:
    """Writes the card beside its weights."""
    text = json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n"
    write_atomically(folder / f"{card.name}.json", text.encode())


def compact(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Halves the weights; running statistics stay float32, where a variance can leave fp16."""
    keep = ("running_mean", "running_var")
    return {
        key: value.detach().cpu().contiguous()
        if key.endswith(keep) or not value.is_floating_point()
        else value.detach().cpu().half().contiguous()
        for key, value in state.items()
    }


def round_as_stored(model: DamageClassifier) -> None:
    """Gives `model`, in place, the values its file will hold, so that they are what is scored."""
    stored = compact(model.state_dict())
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})


def write_atomically(path: Path, data: bytes) -> None:
    """Writes `data` so that `path` always holds the old or the new content, never half of it."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _fill(module: torch.nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            name, f"the weights do not fit the backbone ({first})", "choose the right backbone"
        ) from error


def _no_such_checkpoint(name: str, folder: Path) -> CheckpointError:
    there = ", ".join(sorted(path.stem for path in folder.glob("*.json"))) or "none"
    if name in BACKBONES:
        advice = f"train it with: python -m heritage train DATA --backbone {name} (there: {there})"
    else:
        advice = f"choose one of: {there}"
    return CheckpointError(name, "there is no such checkpoint", advice)


def _validation_auroc(card: ModelCard) -> float:
    try:
        return float(card.metrics["validation"]["auroc"]["value"])
    except (KeyError, TypeError, ValueError):
        return -1.0
