"""Several devices train one network: a process each, started by Hugging Face Accelerate.

Every process takes its share of each batch. The gradients, and what the batch norms know of the
photos, are averaged over all processes after each step, so that all hold the same weights; the
main one alone writes. Where there is one process nothing of this happens, and Accelerate need not
be installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from heritage.errors import TrainingError

T = TypeVar("T")
SEEDS_APART = 1_000_003  # PyTorch looks at the lower 32 bits of a seed only
# How launchers tell the processes that there are several: PyTorch's and Accelerate's, MPI's.
COUNTS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
LOST = ("gloo", "connection closed", "connection reset", "nccl")  # in errors without a type


@dataclass(frozen=True)
class Devices:
    """The devices a run trains on, as one of its processes sees them; here, its only one.

    Attributes:
        device: Where this process does its arithmetic, such as `cpu` or `cuda:1`.
        index: Number of this process, from 0, which is the main one.
        count: Number of processes.
    """

    device: str = "cpu"
    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    @property
    def share(self) -> slice:
        """What this process takes of a list that all share out among themselves."""
        return slice(self.index, None, self.count)

    def own_seed(self, seed: int) -> int:
        """`seed` for what every process must draw for itself."""
        return seed + self.index * SEEDS_APART

    def prepare(self, model: nn.Module) -> nn.Module:
        """`model` with gradients that are averaged over all processes."""
        return model

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Sets float tensors, in place, to their mean over all processes."""

    def total(self, value: Tensor) -> Tensor:
        """Sum of a number () over all processes."""
        return value

    def gather(self, value: T) -> list[T]:
        """What each process gave, in their order."""
        return [value]

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` returns in the main process; the others do not call it."""
        return make()

    def together(self) -> AbstractContextManager[None]:
        """Turns the loss of another process into a TrainingError."""
        return nullcontext()


ALONE = Devices()


@dataclass(frozen=True)
class SeveralDevices(Devices):
    """As `Devices`, where there are more processes than this; made by `joined`."""

    engine: Any = field(kw_only=True)

    def prepare(self, model: nn.Module) -> nn.Module:
        """See `Devices`."""
        return self.engine.prepare_model(model)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """See `Devices`."""
        if tensors:  # as one tensor: each message costs more than what is in it
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            parts = self.engine.reduce(flat, "mean").split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def total(self, value: Tensor) -> Tensor:
        """See `Devices`."""
        return self.engine.reduce(value, "sum")

    def gather(self, value: T) -> list[T]:
        """See `Devices`."""
        from accelerate.utils import gather_object

        return gather_object([value])

    def from_main(self, make: Callable[[], T]) -> T:
        """See `Devices`."""
        from accelerate.utils import broadcast_object_list

        told = [make() if self.is_main else None]
        return broadcast_object_list(told)[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """See `Devices`."""
        try:
            yield
        except RuntimeError as error:
            typed = isinstance(error, torch.distributed.DistError)
            if not typed and not any(sign in str(error).lower() for sign in LOST):
                raise
            raise TrainingError(
                "another process of this training",
                "it has ended, or cannot be reached",
                "see what it said and give the same command again; what finished epochs learned "
                "is kept",
            ) from error


@contextmanager
def joined(device: str) -> Iterator[Devices]:
    """Joins the other processes of this run, where it was started as several.

    Args:
        device: `cpu` or `cuda`; of several GPUs, each process of a machine takes its own.

    Raises:
        TrainingError: Accelerate is not there, or is set up for what this training cannot do.
    """
    count = started_processes()
    if count == 1:
        yield Devices(device)
        return
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise TrainingError(
            "accelerate",
            "several processes need it, and it is not installed",
            "pip install -r requirements-cluster.txt",
        ) from error
    engine = Accelerator(
        cpu=device == "cpu",
        mixed_precision="no",  # the loop has its own
        dynamo_backend="no",
        gradient_accumulation_steps=1,
    )
    try:
        if engine.num_processes != count or engine.distributed_type not in (
            "MULTI_CPU",
            "MULTI_GPU",
        ):
            raise TrainingError(
                "accelerate",
                f"it is set up for {engine.distributed_type.value}, not {count} equal processes",
                "give accelerate launch --multi_gpu, --num_processes and --num_machines",
            )
        yield SeveralDevices(
            str(engine.device), engine.process_index, engine.num_processes, engine=engine
        )
    finally:
        engine.state.destroy_process_group()


def started_processes() -> int:
    """How many processes this one was started with, itself counted.

    Raises:
        TrainingError: Accelerate was asked for several and has started one.
    """
    count = max(int(os.environ.get(name) or 1) for name in COUNTS)
    asked = os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ
    if count == 1 and asked:
        raise TrainingError(
            "accelerate launch --cpu",
            "it starts one process, whatever --num_processes says",
            "give it --multi_gpu in place of --cpu, and --device cpu to this command",
        )
    return count
