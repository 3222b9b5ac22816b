"""Checkpoints: weights as safetensors beside their card, the hash checked on loading."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from heritage.backbones import Backbone, get_backbone
from heritage.cards import (
    ModelCard,
    check_name,
    read_card,
    weights_dir,
    write_atomically,
    write_card,
)
from heritage.classifiers import DamageClassifier, build_classifier, parameter_count
from heritage.errors import CheckpointError


@dataclass(frozen=True)
class Checkpoint:
    """A loaded classifier in evaluation mode, its weights frozen, and its card."""

    model: DamageClassifier
    backbone: Backbone
    card: ModelCard


def load_checkpoint(name: str, folder: Path | None = None) -> Checkpoint:
    """Loads the checkpoint called `name`, its hash checked against its card.

    Raises:
        CheckpointError: It is missing, damaged, or does not fit its backbone.
    """
    folder = folder or weights_dir()
    check_name(name)
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
    made_for = (card.input_size_px, tuple(card.mean), tuple(card.std))
    if made_for != (backbone.input_size_px, backbone.mean, backbone.std):
        raise CheckpointError(
            path.name, "it was trained for another input size or normalisation", "train it again"
        )
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

    Raises:
        CheckpointError: The card's name cannot be that of a file.
    """
    check_name(card.name)
    folder.mkdir(parents=True, exist_ok=True)
    data = save(compact(model.state_dict()))
    entry = get_backbone(card.backbone)
    values = asdict(card) | {
        "sha256": hashlib.sha256(data).hexdigest(),
        "parameters": parameter_count(model),
        "input_size_px": entry.input_size_px,
        "mean": entry.mean,
        "std": entry.std,
    }
    card = ModelCard(**values)
    write_atomically(folder / f"{card.name}.safetensors", data)
    write_card(card, folder)
    return card


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


def _fill(module: torch.nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            name, f"the weights do not fit the backbone ({first})", "choose the right backbone"
        ) from error
