import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from heritage.photos import open_photo
from heritage.quality import photo_warnings


def warnings_of(pixels: np.ndarray, blur: float = 0) -> str:
    picture = Image.fromarray(pixels)
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    photo = open_photo(buffer.getvalue(), "wall.png")
    return " ".join(photo_warnings(photo, photo.pixels(short_side_px=448)))


def texture(low: int, high: int, size: tuple[int, int] = (600, 800)) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, (*size, 3), dtype=np.uint8)


def test_a_sharp_well_lit_photo_has_no_warnings():
    assert warnings_of(texture(60, 200)) == ""


@pytest.mark.parametrize(
    ("pixels", "blur", "word"),
    [
        (texture(60, 200), 12, "Blurred"),
        (texture(0, 40), 0, "Dark"),
        (texture(235, 256), 0, "Overexposed"),
        (texture(60, 200, (100, 150)), 0, "Tiny"),
    ],
)
def test_what_spoils_a_photo_is_said(pixels, blur, word):
    assert word in warnings_of(pixels, blur)
