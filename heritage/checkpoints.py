"""Checkpoints: weights as safetensors beside their card, the hash checked on loading."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from heritage.backbones import Backbone, get_backbone
from heritage.cards import (
    FLOAT16,
    INT8,
    WEIGHTS,
    ModelCard,
    check_name,
    is_taken,
    read_card,
    weights_dir,
    write_atomically,
    write_card,
)
from heritage.classifiers import DamageClassifier, build_classifier, fit_widths, parameter_count
from heritage.errors import CheckpointError, one_line
from heritage.pointing import PointingHead, sequence_of, tap_points

SCALE = ".scale"
POINTER = f".pointer{WEIGHTS}"
WRITING_S = 60.0  # that one waits for another who writes a checkpoint


@dataclass(frozen=True)
class Checkpoint:
    """A loaded classifier in evaluation mode, its weights frozen, and its card.

    Attributes:
        pointer: Its head that points, where it has one.
    """

    model: DamageClassifier
    backbone: Backbone
    card: ModelCard
    pointer: PointingHead | None = None


def load_checkpoint(name: str, folder: Path | None = None, *, pointing: bool = True) -> Checkpoint:
    """Loads the checkpoint called `name`, its hash checked against its card.

    Args:
        pointing: With its head that points, if it has one; who needs none does without, even
            where its file is lost.

    Raises:
        CheckpointError: It is missing, damaged, or does not fit its backbone.
    """
    folder = folder or weights_dir()
    check_name(name)
    card = read_card(folder / f"{name}.json")
    path = folder / f"{name}{WEIGHTS}"
    data = _read_checked(path, card.sha256)
    backbone = get_backbone(card.backbone)
    made_for = (card.input_size_px, tuple(card.mean), tuple(card.std))
    if made_for != (backbone.input_size_px, backbone.mean, backbone.std):
        raise CheckpointError(
            path.name, "it was trained for another input size or normalisation", "train it again"
        )
    model = build_classifier(backbone)
    tensors = parse_weights(data, path.name)
    if card.pruned:
        try:
            fit_widths(model, tensors)
        except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
            raise CheckpointError(
                path.name, f"its layers have no width ({one_line(str(error))})", "train it again"
            ) from error
    _fill(model, tensors, path.name)
    model.requires_grad_(False).eval()
    if card.pruned:
        _check_widths(model, backbone, path.name)
    pointer = _load_pointer(model, backbone, card, folder) if pointing else None
    return Checkpoint(model, backbone, card, pointer)


def _read_checked(path: Path, sha256: str, else_: str = "") -> bytes:
    try:
        data = path.read_bytes()
    except OSError:
        raise CheckpointError(
            path.name, "the card is there but the weights are not", f"restore the file{else_}"
        ) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(
            path.name,
            "its hash is not the one in its card",
            f"restore both files together{else_}",
        )
    return data


def _load_pointer(
    model: DamageClassifier, backbone: Backbone, card: ModelCard, folder: Path
) -> PointingHead | None:
    if not card.pointing:
        return None
    path = folder / f"{card.name}{POINTER}"
    anew = f", or train it anew: train-pointing DATA --backbone {card.name}"
    return _pointer_of(
        _read_checked(path, card.pointing["sha256"], anew), path.name, model, backbone
    )


def read_pointer(path: Path, checkpoint: Checkpoint) -> PointingHead:
    """A head that points, from its file alone, for a checkpoint of the backbone it was made for.

    Raises:
        CheckpointError: It is missing, damaged, or does not fit.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = f"it cannot be read ({error.strerror})"
        raise CheckpointError(one_line(path.name), reason, "check the path") from None
    return _pointer_of(data, one_line(path.name), checkpoint.model, checkpoint.backbone)


def _pointer_of(
    data: bytes, name: str, model: DamageClassifier, backbone: Backbone
) -> PointingHead:
    head = PointingHead(tap_points(sequence_of(model.features, backbone), backbone)[1])
    _fill(head, parse_weights(data, name), name)
    return head.requires_grad_(False).eval()


def save_pointer(
    card: ModelCard, head: PointingHead, made: dict[str, Any], folder: Path
) -> ModelCard:
    """Writes `NAME.pointer.safetensors` beside the checkpoint, and what was made into its card.

    Args:
        made: How it was trained, for the card.

    Returns:
        The card as it is now.

    Raises:
        CheckpointError: Its weights are others by now, or another writes it.
    """
    data = save(compact(head.state_dict()))
    pointing = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "parameters": parameter_count(head),
        "hot": 0.5,
        **made,
    }
    with _held(card.name, folder):
        # How well cracks are found was found of the head before, if at all.
        card = replace(_still(card, folder), pointing=pointing, localisation={})
        write_atomically(folder / f"{card.name}{POINTER}", data)
        write_card(card, folder)
    return card


def update_card(made: ModelCard, fields: Iterable[str], folder: Path) -> ModelCard:
    """Writes some fields of a card into the one that lies in `folder`, which may have others by
    now.

    Returns:
        The card as it is now.

    Raises:
        CheckpointError: The weights, or the head that points where the fields are about it, are
            others by now; or another writes it.
    """
    values = {name: getattr(made, name) for name in fields}
    with _held(made.name, folder):
        now = _still(made, folder)
        of_head = not values.keys().isdisjoint(("pointing", "localisation"))
        if of_head and now.pointing.get("sha256") != made.pointing.get("sha256"):
            raise _trained_anew(f"{made.name}{POINTER}")
        card = replace(now, **values)
        write_card(card, folder)
    return card


@contextmanager
def _held(name: str, folder: Path) -> Iterator[None]:
    """Keeps other commands from writing this checkpoint."""
    lock = FileLock(folder / f".{name}.lock", timeout=WRITING_S)
    try:
        lock.acquire()
    except Timeout:
        raise CheckpointError(
            name, "another command is writing this checkpoint", "wait for it, then try again"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _still(card: ModelCard, folder: Path) -> ModelCard:
    """The card as it lies there, if it is still that of the same weights."""
    now = read_card(folder / f"{card.name}.json")
    if now.sha256 != card.sha256:
        raise _trained_anew(card.name)
    return now


def _trained_anew(name: str) -> CheckpointError:
    return CheckpointError(
        name,
        "it was trained anew meanwhile, and what was found is of the weights before",
        "give the command again",
    )


def check_free(name: str, folder: Path, advice: str = "choose a --name or --overwrite it") -> None:
    """Raises a CheckpointError where `folder` holds a checkpoint of this name."""
    if is_taken(name, folder):
        reason = f"{folder.name} holds a checkpoint of this name"
        raise CheckpointError(name, reason, advice)


def check_writable(folder: Path) -> None:
    """Finds out before hours of work, not after, that what it makes has nowhere to go.

    Raises:
        CheckpointError: `folder` cannot be made, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CheckpointError(
            str(folder),
            f"it cannot be written to ({error.strerror})",
            "make it writable, or name another folder",
        ) from error


def _check_widths(model: DamageClassifier, backbone: Backbone, name: str) -> None:
    side = backbone.smallest_input_px
    try:
        model(torch.zeros(1, 3, side, side))
    except RuntimeError as error:
        raise CheckpointError(
            name, "the widths of its layers do not fit each other", "train it again"
        ) from error


def parse_weights(data: bytes, name: str) -> dict[str, Tensor]:
    """Parses safetensors bytes into float32 tensors (counts stay integers).

    Weights stored as int8 are multiplied by the scales, one per output channel, beside them.

    Raises:
        CheckpointError: The bytes are no safetensors file, or hold values that are not finite.
    """
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, LookupError, RuntimeError, ArithmeticError) as error:
        reason = f"it is no safetensors file ({one_line(str(error))})"
        raise CheckpointError(name, reason, "weights are never read from pickles") from error
    for value in tensors.values():
        if value.is_complex() or (value.is_floating_point() and value.element_size() < 2):
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(name, f"it holds {kind} numbers", "save it as float16 or int8")
    scales = {key for key in tensors if key.endswith(SCALE)}
    for key in scales:
        scale = tensors.pop(key).float()
        key = key.removesuffix(SCALE)
        whole = tensors.get(key)
        if whole is None or whole.ndim < 2 or scale.ndim != 1 or len(whole) != len(scale):
            reason = f"{one_line(key)} does not fit its scales"
            raise CheckpointError(name, reason, "restore the file")
        tensors[key] = whole.float() * scale.view(-1, *[1] * (whole.ndim - 1))
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            reason = f"{one_line(key)} holds values that are not finite"
            raise CheckpointError(name, reason, "train again")
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
    """Writes `NAME.safetensors`, in the precision that `card` names, and `NAME.json`.

    Returns:
        The card with the weights' hash and number of parameters filled in.

    Raises:
        CheckpointError: The card's name cannot be that of a file, or another writes it.
    """
    check_name(card.name)
    folder.mkdir(parents=True, exist_ok=True)
    data = save(compact(model.state_dict(), card.precision))
    entry = get_backbone(card.backbone)
    values = asdict(card) | {
        "sha256": hashlib.sha256(data).hexdigest(),
        "parameters": parameter_count(model),
        "input_size_px": entry.input_size_px,
        "mean": entry.mean,
        "std": entry.std,
        "pointing": {},  # a head of other weights
        "localisation": {},
    }
    card = ModelCard(**values)
    with _held(card.name, folder):
        write_atomically(folder / f"{card.name}{WEIGHTS}", data)
        write_card(card, folder)
        (folder / f"{card.name}{POINTER}").unlink(missing_ok=True)
    return card


def compact(state: dict[str, Tensor], precision: str = FLOAT16) -> dict[str, Tensor]:
    """The tensors as they are stored.

    With `float16` all but running statistics, where a variance can leave that range, are halved.
    With `int8 per channel` weights of more than one dimension become int8 with a float32 scale
    for each output channel (Krishnamoorthi 2018, arXiv:1806.08342, section 3.1.2).
    """
    stored = {}
    for key, value in state.items():
        value = value.detach().cpu().contiguous()
        if not value.is_floating_point():
            stored[key] = value
        elif precision == INT8 and value.ndim > 1:
            scale = value.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
            steps = value / scale.view(-1, *[1] * (value.ndim - 1))
            stored[key] = steps.round().clamp(-127, 127).to(torch.int8)
            stored[key + SCALE] = scale
        else:
            exact = key.endswith(("running_mean", "running_var"))
            stored[key] = value if exact else value.half()
    return stored


def round_as_stored(model: DamageClassifier, precision: str = FLOAT16) -> None:
    """Gives `model`, in place, the values its file will hold, so that they are what is scored."""
    data = save(compact(model.state_dict(), precision))
    model.load_state_dict(parse_weights(data, "these weights"))


def _fill(module: torch.nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        first = one_line(str(error).splitlines()[-1].strip())
        raise CheckpointError(
            name, f"the weights do not fit the backbone ({first})", "choose the right backbone"
        ) from error
