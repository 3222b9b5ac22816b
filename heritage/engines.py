"""What runs a loaded checkpoint: ONNX Runtime on the CPU, PyTorch on a GPU or where that fails.

ONNX Runtime gets backbone, head and Grad-CAM as one graph, the head's gradient written out, so that
Grad-CAM stays exact; PyTorch takes the gradient itself. The graph is made from the loaded weights
in memory, in a second or so: there is no file that could be stale.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import torch
from torch import Tensor, nn

from heritage.backbones import Backbone
from heritage.cascade import CascadeFeatures, overlaid
from heritage.checkpoints import Checkpoint
from heritage.heatmaps import grad_cam_between, grad_cam_written_out, other_maps
from heritage.methods import GRAD_CAM
from heritage.pointing import PointingFeatures, sequence_of, tap_points

LOG = logging.getLogger(__name__)
Runner = Callable[[Tensor], tuple[Tensor, ...]]
_OPSET = 17
_SPIN_US = "50"  # enough for the pause between two layers
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
        device: `cpu` or `cuda`; by default as `best_device` says.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "") -> None:
        self.device = torch.device(device or best_device())
        self.model = checkpoint.model.to(self.device)
        self._checkpoint, self._making = checkpoint, Lock()
        features = self.model.features
        self._first: Runner | None = None
        if isinstance(features, CascadeFeatures):
            self._first = self._heat(features.first.features, features.first.head)
            features = features.second
        self._last = self._heat(features, self.model.head)

    @property
    def name(self) -> str:
        """What runs the backbone: `ONNX Runtime` or `PyTorch`."""
        return "ONNX Runtime" if isinstance(self._last, _OnnxRunner) else "PyTorch"

    def answer(self, x: Tensor, method: str = GRAD_CAM) -> Answer:
        """Reads normalised RGB (B, 3, H, W); the answer is on the CPU.

        Args:
            method: One of `methods.METHODS`.
        """
        x = x.to(self.device)
        first_maps = None
        if self._first:
            _, first_maps, _ = self._first(x)
            x = overlaid(x, first_maps)
        logits, maps, features = self._last(x)
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
        (heat,) = run(x.to(self.device))
        return heat.cpu()

    @cached_property
    def _pointing(self) -> Runner:
        backbone, pointer = self._checkpoint.backbone, self._checkpoint.pointer
        assert pointer is not None
        features = sequence_of(self.model.features, backbone)
        taps, _ = tap_points(features, backbone)
        module = PointingFeatures(features, taps, pointer.to(self.device))
        return self._runner(module, ("heat",), lambda x: (module(x),))

    def _heat(self, features: nn.Module, head: nn.Module) -> Runner:
        """From normalised RGB to logits (B,), Grad-CAM (B, h, w), features (B, C, h, w)."""

        def in_pytorch(x: Tensor) -> tuple[Tensor, ...]:
            found = features(x)
            return *grad_cam_between(found, head), found

        names = ("logits", "maps", "features")
        return self._runner(_WithHeat(features, head), names, in_pytorch)

    def _runner(self, module: nn.Module, outputs: Sequence[str], in_pytorch: Runner) -> Runner:
        if self.device.type == "cpu":
            backbone = self._checkpoint.backbone
            try:
                return _OnnxRunner(onnx_graph(module.eval(), backbone, outputs))
            except Exception as error:  # whatever it is, PyTorch answers the same, only later
                why = str(error).split("\n")[0]
                LOG.warning("runs in PyTorch", extra={"backbone": backbone.name, "reason": why})

        def run(x: Tensor) -> tuple[Tensor, ...]:
            with torch.inference_mode(False), torch.no_grad():
                return in_pytorch(x)

        return run


class _WithHeat(nn.Module):
    """What the graph holds of a checkpoint."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.features(x)
        return *grad_cam_written_out(features, self.head), features


def best_device() -> str:
    """`cuda` where there is one, else `cpu`.

    Never `mps`, Apple's GPU: a triage asks from several threads at once, and there PyTorch 2.14
    brings the process down (https://github.com/pytorch/pytorch/issues/197805).
    """
    return "cuda" if torch.cuda.is_available() else "cpu"


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; ONNX Runtime's errors have no kind of theirs."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "alloc" in str(error).lower()


class _OnnxRunner:
    def __init__(self, graph: bytes) -> None:
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Sessions, and the threads that decode, share the cores: nobody waits in a loop for long.
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
        options.enable_mem_pattern = False  # photos differ in shape
        options.log_severity_level = 3
        self._session = InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        found = self._session.run(None, {"x": x.contiguous().numpy()})
        return tuple(torch.from_numpy(one) for one in found)


def onnx_graph(module: nn.Module, backbone: Backbone, outputs: Sequence[str]) -> bytes:
    """The ONNX model of what maps (B, 3, H, W) to `outputs`; B, H and W stay free.

    It is traced: the newer exporter takes ten to a hundred times as long for the same graph.
    """
    side = backbone.input_size_px
    example = torch.zeros(2, 3, side, side + 32)
    free = {0: "photos", 2: "height", 3: "width"}
    buffer = io.BytesIO()
    with _EXPORTING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=_OPSET,
            input_names=["x"],
            output_names=list(outputs),
            dynamic_axes={"x": free} | {name: {0: "photos"} for name in outputs},
        )
    return buffer.getvalue()
