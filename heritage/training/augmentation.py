"""Random views of a training photo: never squashed, and hostile to the source's own look."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from heritage.training.synthetic import paint_damage


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


class QuarterTurns(v2.Transform):
    """Turns a photo by 0, 90, 180 or 270 degrees, each as likely as the others."""

    def make_params(self, flat_inputs: list[Tensor]) -> dict[str, int]:
        """Draws the number of quarter turns."""
        return {"turns": int(torch.randint(0, 4, ()))}

    def transform(self, inpt: Tensor, params: dict[str, int]) -> Tensor:
        """Turns (3, h, w)."""
        return torch.rot90(inpt, params["turns"], (-2, -1))


class SquareCrop(v2.Transform):
    """Cuts a random square of a random share of the photo's area, at the photo's resolution."""

    def __init__(self, smallest_share: float) -> None:
        super().__init__()
        self.smallest_share = smallest_share

    def make_params(self, flat_inputs: list[Tensor]) -> dict[str, int]:
        """Draws size and place; a square larger than the short side becomes the short side."""
        height, width = flat_inputs[0].shape[-2:]
        share = float(torch.empty(()).uniform_(self.smallest_share, 1))
        side = max(8, min(height, width, round((share * height * width) ** 0.5)))
        side = min(side, height, width)
        return {
            "top": int(torch.randint(0, height - side + 1, ())),
            "left": int(torch.randint(0, width - side + 1, ())),
            "side": side,
        }

    def transform(self, inpt: Tensor, params: dict[str, int]) -> Tensor:
        """Cuts (3, s, s) out of (3, h, w)."""
        return v2.functional.crop(
            inpt, params["top"], params["left"], params["side"], params["side"]
        )


class PaintedDamage(v2.Transform):
    """Paints damage on a square view of a sound photo."""

    def transform(self, inpt: Tensor, params: dict[str, int]) -> Tensor:
        """Paints on (3, s, s) uint8."""
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        painted = paint_damage(inpt.permute(1, 2, 0).numpy(), rng)
        return torch.from_numpy(painted).permute(2, 0, 1)


@dataclass(frozen=True)
class Views:
    """Draws random training views of upright photos.

    Flips, rotation, crops of one scale in both directions (the aspect is kept) and colour jitter
    follow the second study; the rest is there because collections differ in sharpness, colour,
    distance and orientation, and a network would learn that instead of damage.

    Attributes:
        side_px: Side S of a view.
        smallest_crop: Least share of a damaged photo's area in a view.
        smallest_crop_sound: The same for other photos.
        painted_share: Share of the views of sound photos on which damage is painted.
        turned_share: Share of the photos turned at random by quarter turns. Where one class was
            filed sideways (a lost EXIF tag is enough), a network learns that instead of damage.
        rotation_degrees: Largest rotation to either side.
        jitter: Strength of brightness, contrast and saturation changes.
    """

    side_px: int
    smallest_crop: float = 0.3
    smallest_crop_sound: float = 0.3
    painted_share: float = 0.0
    turned_share: float = 1.0
    rotation_degrees: float = 15.0
    jitter: float = 0.25

    def draw(self, photo: Tensor, label: float) -> tuple[Tensor, float]:
        """One view of `photo`.

        Args:
            photo: Upright RGB (3, h, w) uint8.
            label: 1.0 damaged, 0.0 sound, NaN unknown.

        Returns:
            The view (3, S, S) uint8, and its label: 1.0 where damage was painted on.
        """
        crop = self.smallest_crop if label == 1 else self.smallest_crop_sound
        view = self._framing(crop)(photo)
        if label == 0 and float(torch.rand(())) < self.painted_share:
            view, label = PaintedDamage()(view), 1.0
        return self.look(view), label

    def _framing(self, smallest_crop: float) -> v2.Compose:
        return v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomApply([QuarterTurns()], self.turned_share),
                v2.RandomApply(
                    [v2.RandomRotation(self.rotation_degrees, v2.InterpolationMode.BILINEAR)]
                ),
                SquareCrop(smallest_crop),
            ]
        )

    @cached_property
    def look(self) -> v2.Compose:
        """What changes a square view (3, s, s) uint8 in size, colour and sharpness only."""
        jitter = self.jitter
        return v2.Compose(
            [
                v2.Resize([self.side_px, self.side_px], antialias=True),
                v2.RandomApply([v2.ColorJitter(jitter, jitter, jitter, 0.03)], p=0.8),
                v2.RandomGrayscale(0.1),
                v2.RandomApply([CoarserResolution(self.side_px // 4)], p=0.25),
                v2.RandomApply([v2.GaussianBlur(7, (0.3, 2.0))], p=0.15),
                v2.RandomApply([v2.JPEG((30, 95))], p=0.3),
            ]
        )
