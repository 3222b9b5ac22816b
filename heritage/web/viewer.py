"""The compare viewer: a photo and its heat map side by side, zoomed and panned as one."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import streamlit as st

_HERE = Path(__file__).parent

# Constant and trusted: everything that comes from a photo goes through `data`, never in here.
_HTML = """
<section class="viewer" hidden>
  <figure class="original">
    <figcaption><b>Original</b> <span class="title"></span></figcaption>
    <div class="pane" tabindex="0" role="group" aria-describedby="keys">
      <div class="frame"><div class="stage">
        <img class="photo" draggable="false"><div class="boxes" aria-hidden="true"></div>
      </div></div>
    </div>
  </figure>
  <figure class="overlay">
    <figcaption><b>Overlay</b></figcaption>
    <div class="pane" tabindex="0" role="group" aria-describedby="keys">
      <div class="frame"><div class="stage">
        <img class="photo" draggable="false"><img class="heat" alt="" draggable="false">
        <div class="boxes" aria-hidden="true"></div>
      </div></div>
    </div>
  </figure>
  <div class="zoom" role="group" aria-label="Zoom">
    <div class="buttons">
      <button type="button" class="out" aria-label="Zoom out">−</button>
      <output class="scale" aria-label="Zoom level"></output>
      <button type="button" class="in" aria-label="Zoom in">+</button>
      <button type="button" class="reset">Reset</button>
    </div>
    <p class="hint mouse">Click a photo, then scroll to zoom. Drag to move.</p>
    <p class="hint touch">Pinch or double-tap to zoom. Drag to move.</p>
    <p id="keys" hidden>Plus and minus zoom, arrows move, 0 resets, Escape leaves the photo.</p>
  </div>
  <div class="heat-controls">
    <p class="note">No place stands out in this photo: there is no heat to draw</p>
    <label class="opacity">
      <span>Opacity</span>
      <input type="range" min="0" max="100" step="1" aria-label="Opacity">
      <output></output>
    </label>
    <div class="scale-bar" role="img">
      <span>low</span><i></i><span>high</span>
      <small></small>
    </div>
  </div>
</section>
"""

_mount = st.components.v2.component(
    "heritage_compare_viewer",
    html=_HTML,
    css=(_HERE / "viewer.css").read_text("utf-8"),
    js=(_HERE / "viewer.js").read_text("utf-8"),
)


@dataclass(frozen=True)
class Box:
    """A box to outline, in fractions (0..1) of the photo's width and height."""

    x: float
    y: float
    width: float
    height: float
    label: str


def compare_viewer(
    *,
    photo_url: str,
    heat_url: str | None,
    aspect: float,
    title: str,
    boxes: Sequence[Box],
    opacity_percent: int,
    show_boxes: bool,
    colour_bar: Sequence[str],
    scale_note: str,
    key: str,
) -> int:
    """Show the original and the overlay side by side, in one shared view.

    Zoom, pan and the opacity slider work in the browser; the script runs again only once the
    slider is released. The slider keeps its value when the photo changes under the same `key`.

    Args:
        photo_url: `data:` URL of the photo.
        heat_url: `data:` URL of the colour-mapped heat, of the photo's aspect and of any size;
            its own alpha is kept. None means there is none, which is said in words.
        aspect: Width divided by height of the photo.
        title: What the photo is called, shown beside the original and used in the alt texts.
        boxes: Regions to outline in both panes.
        opacity_percent: Where the slider starts, 0..100.
        show_boxes: Whether the boxes are drawn.
        colour_bar: CSS colours of the heat, low to high.
        scale_note: What low and high mean.
        key: Streamlit key of this viewer.

    Returns:
        The opacity last set, 0..100.

    Raises:
        ValueError: `aspect` is not a positive number, or an opacity is outside 0..100.
    """
    if not (math.isfinite(aspect) and aspect > 0):
        raise ValueError(f"aspect is width / height and must be positive, not {aspect}")
    if not 0 <= opacity_percent <= 100:
        raise ValueError(f"opacity_percent must lie in 0..100, not {opacity_percent}")
    result = _mount(
        key=key,
        data={
            "photo_url": photo_url,
            "heat_url": heat_url,
            "aspect": aspect,
            "title": title,
            "boxes": [asdict(box) for box in boxes] if show_boxes else [],
            "opacity": opacity_percent,
            "colour_bar": list(colour_bar),
            "scale_note": scale_note,
        },
        default={"opacity": opacity_percent},
        on_opacity_change=lambda: None,
    )
    return _percent(result.get("opacity"), opacity_percent)


def _percent(value: object, fallback: int) -> int:
    """Read what the browser sent, which anyone can forge."""
    if isinstance(value, int | float) and math.isfinite(value):
        return round(min(max(value, 0), 100))
    return fallback
