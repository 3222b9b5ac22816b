"""What runs a loaded backbone: ONNX Runtime on the CPU, PyTorch on a GPU or where that fails.

Up to the heat-map layer the backbone runs in the engine; the small head and its gradient stay in
PyTorch, so that Grad-CAM stays exact. The graph is made from the loaded weights in memory, in a
second or so: there is no file that could be stale.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import torch
from torch import Tensor, nn

from heritage.backbones import Backbone
from heritage.cascade import CascadeFeatures, overlaid
from heritage.checkpoints import Checkpoint
from heritage.heatmaps import grad_cam_between, other_maps
from heritage.methods import GRAD_CAM
from heritage.pointing import PointingFeatures, sequence_of, tap_points

LOG = logging.getLogger(__name__)
Runner = Callable[[Tensor], Tensor]
_OPSET = 17
_EXPORTING = Lock()  # the exporter sets things for the whole process


@dataclass(frozen=True)
class Answer:
    """What a checkpoint says of a batch.

    Attributes:
        logits: Damage logits (B,).
        maps: Raw Grad-CAM heat (B, h, w).
        first_maps: Of a cascade, the raw heat of stage 1 (B, h', w').
    """

    logits: Tensor
    maps: Tensor
    first_maps: Tensor | None = None


class Engine:
    """A checkpoint ready to answer; holds no state between calls, so threads may share it.

    Args:
        checkpoint: The loaded checkpoint.
        device: `cpu`, `cuda`, `mps`; by default a GPU where there is one.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "") -> None:
        self.device = torch.device(device or best_device())
        self.model = checkpoint.model.to(self.device)
        features = self.model.features
        self._first: tuple[Runner, nn.Module] | None = None
        if isinstance(features, CascadeFeatures):
            run = self._runner(features.first.features, checkpoint.backbone)
            self._first = run, features.first.head
            features = features.second
        self._features = self._runner(features, checkpoint.backbone)
        self._checkpoint, self._making = checkpoint, Lock()

    @property
    def name(self) -> str:
        """What runs the backbone: `ONNX Runtime` or `PyTorch`."""
        return "ONNX Runtime" if isinstance(self._features, _OnnxRunner) else "PyTorch"

    def answer(self, x: Tensor, method: str = GRAD_CAM) -> Answer:
        """Reads normalised RGB (B, 3, H, W); the answer is on the CPU.

        Args:
            method: One of `methods.METHODS`.
        """
        x = x.to(self.device)
        first_maps = None
        if self._first:
            run, head = self._first
            _, first_maps = grad_cam_between(run(x), head)
            x = overlaid(x, first_maps)
        features = self._features(x)
        logits, maps = grad_cam_between(features, self.model.head)
        if method != GRAD_CAM:
            maps = other_maps(features, self.model.head, method)
        return Answer(
            logits.cpu(), maps.cpu(), first_maps.cpu() if first_maps is not None else None
        )

    def point(self, x: Tensor) -> Tensor:
        """Where normalised RGB (B, 3, H, W) is damaged, by the checkpoint's head that points.

        Returns:
            Damage logits (B, h, w) on the CPU, h about H/4.
        """
        with self._making:  # most sessions never ask
            run = self._pointing
        return run(x.to(self.device)).cpu()

    @cached_property
    def _pointing(self) -> Runner:
        backbone, pointer = self._checkpoint.backbone, self._checkpoint.pointer
        assert pointer is not None
        features = sequence_of(self.model.features, backbone)
        taps, _ = tap_points(features, backbone)
        return self._runner(PointingFeatures(features, taps, pointer.to(self.device)), backbone)

    def _runner(self, features: nn.Module, backbone: Backbone) -> Runner:
        if self.device.type != "cpu":
            return _TorchRunner(features)
        try:
            return _OnnxRunner(features, backbone)
        except Exception as error:  # whatever it is, PyTorch answers the same, only later
            reason = str(error).split("\n")[0]
            LOG.warning("runs in PyTorch", extra={"backbone": backbone.name, "reason": reason})
            return _TorchRunner(features)


def best_device() -> str:
    """`cuda` or `mps` where there is one, else `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class _TorchRunner:
    def __init__(self, features: nn.Module) -> None:
        self._run = features

    def __call__(self, x: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            return self._run(x)


class _OnnxRunner:
    def __init__(self, features: nn.Module, backbone: Backbone) -> None:
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Several sessions, and the threads that decode, share the cores: nobody waits in a loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # photos differ in shape
        options.log_severity_level = 3
        self._session = InferenceSession(
            onnx_graph(features, backbone), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, x: Tensor) -> Tensor:
        (found,) = self._session.run(None, {"x": x.contiguous().numpy()})
        return torch.from_numpy(found)


def onnx_graph(features: nn.Module, backbone: Backbone) -> bytes:
    """The ONNX model of a feature extractor (B, 3, H, W) → (B, C, h, w); B, H and W stay free.

    It is traced: the newer exporter takes ten to a hundred times as long for the same graph.
    """
    side = backbone.input_size_px
    example = torch.zeros(2, 3, side, side + 32)
    free = {0: "photos", 2: "height", 3: "width"}
    buffer = io.BytesIO()
    with _EXPORTING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            features,
            (example,),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=_OPSET,
            input_names=["x"],
            output_names=["features"],
            dynamic_axes={"x": free, "features": free},
        )
    return buffer.getvalue()
