"""What about a photo itself makes an answer less trustworthy: blur, darkness, glare, few pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from heritage.photos import Photo

JUDGED_SIDE_PX = 448
BLURRED_BELOW = 12.0
DARK_BELOW = 40.0
BRIGHT_ABOVE = 225.0
TINY_BELOW_PX = 224


def photo_warnings(photo: Photo, pixels: np.ndarray) -> tuple[str, ...]:
    """Warnings in plain words about `photo`, judged from its RGB `pixels` (h, w, 3) uint8."""
    picture = Image.fromarray(pixels).convert("L")
    scale = JUDGED_SIDE_PX / min(picture.size)
    if scale < 1:  # the same blur must be judged alike whatever the backbone asks for
        picture = picture.resize([round(side * scale) for side in picture.size])
    grey = np.asarray(picture, np.float32)
    found = []
    if min(photo.width, photo.height) < TINY_BELOW_PX:
        found.append(
            f"Tiny photo ({photo.width} × {photo.height} px): fine cracks cannot show; "
            "use the original file."
        )
    elif sharpness(grey) < BLURRED_BELOW:
        found.append("Blurred photo: fine cracks may be lost; photograph it again if you can.")
    if grey.mean() < DARK_BELOW:
        found.append("Dark photo: damage may hide in the shadow; use flash or daylight.")
    elif grey.mean() > BRIGHT_ABOVE:
        found.append("Overexposed photo: surface detail is lost in the glare.")
    return tuple(found)


def sharpness(grey: np.ndarray) -> float:
    """Variance of the Laplacian of `grey` (h, w) in 0-255 (Pech-Pacheco et al. 2000)."""
    return float(ndimage.laplace(grey).var())
