"""Random views of a training photo: never squashed, and hostile to the source's own look."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2


class CoarserResolution(v2.Transform):
    """Shrinks a crop to a random smaller side and back, as a small or distant photo would look."""

    def __init__(self, smallest_px: int) -> None:
        super().__init__()
        self.smallest_px = smallest_px

    def make_params(self, flat_inputs: list[Tensor]) -> dict[str, int]:
        """Draws the smaller side."""
        side = flat_inputs[0].shape[-1]
        return {"side": int(torch.randint(self.smallest_px, side, ()))}

    def transform(self, inpt: Tensor, params: dict[str, int]) -> Tensor:
        """Resizes (3, S, S) down and up again."""
        small = v2.functional.resize(inpt, [params["side"]] * 2, antialias=True)
        return v2.functional.resize(small, list(inpt.shape[-2:]), antialias=True)


def training_views(
    side_px: int,
    *,
    smallest_crop: float = 0.3,
    rotation_degrees: float = 15.0,
    jitter: float = 0.25,
) -> v2.Compose:
    """Augmentation from an upright photo (3, h, w) uint8 to a square view (3, S, S) uint8.

    Flips, rotation, crops of one scale in both directions (the aspect is kept) and colour jitter
    follow the second study; blur, JPEG noise, grey and coarser resolution are there because
    sources differ in sharpness and colour, and a network would learn that instead of damage.

    Args:
        side_px: Side S of the view.
        smallest_crop: Least share of the photo's area in a crop.
        rotation_degrees: Largest rotation to either side.
        jitter: Strength of brightness, contrast and saturation changes.
    """
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.RandomRotation(rotation_degrees, v2.InterpolationMode.BILINEAR)]),
            v2.RandomResizedCrop(side_px, (smallest_crop, 1.0), (1.0, 1.0), antialias=True),
            v2.RandomApply([v2.ColorJitter(jitter, jitter, jitter, 0.03)], p=0.8),
            v2.RandomGrayscale(0.1),
            v2.RandomApply([CoarserResolution(side_px // 4)], p=0.25),
            v2.RandomApply([v2.GaussianBlur(7, (0.3, 2.0))], p=0.15),
            v2.RandomApply([v2.JPEG((30, 95))], p=0.3),
        ]
    )
