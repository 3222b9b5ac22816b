"""Loaded checkpoints and their answers, shared by all browser sessions.

`heritage.inspection` is imported on first use, because it loads torch: the pages show before that.
"""

from __future__ import annotations

import base64
import logging
import time
from typing import TYPE_CHECKING

import streamlit as st

from heritage.access import Role
from heritage.backbones import BACKBONES
from heritage.cards import ModelCard, list_cards
from heritage.figures import duration_text, in_told_order
from heritage.logs import SHOWN_HASH
from heritage.methods import DETAIL_SCAN, GRAD_CAM
from heritage.photos import Photo
from heritage.web.access import may, only_for_admins
from heritage.web.backbone_cards import option_text, untrained_text

if TYPE_CHECKING:
    from heritage.inspection import Inspection, Inspector

LOG = logging.getLogger(__name__)
# Hash, temperature, unsure band; of the head that points, hash and hot threshold.
CardState = tuple[str, float, tuple[float, float], *tuple[str, ...]]
VIEW_SIDE_PX = 2560  # sharp up to about fivefold zoom
HEAT_SIDE_PX = 512
SCAN_SIDE_PX = 2048
SEEN_PX = 3
MODELS_KEPT = 3
SCANS_KEPT = 4  # a visitor
KEPT_FOR = "1h"  # photos and answers leave the memory after that


def choose_checkpoint() -> ModelCard | None:
    """A select box of all trained checkpoints, the default first; None without any."""
    cards = {card.name: card for card in in_told_order(list_cards())}
    if not cards:
        st.warning(
            "No checkpoint is installed. Train one with "
            "`python -m heritage train DATA --backbone mobilenet_v2`, then reload this page.",
            icon=":material/model_training:",
        )
        return None
    trained = {card.backbone for card in cards.values()}
    untrained = [name for name in BACKBONES if name not in trained]
    first = next(iter(cards))
    if st.session_state.get("checkpoint", first) not in {*cards, *untrained}:
        # Set, not forgotten: a browser would go on showing what is no longer there.
        st.session_state["checkpoint"] = first
    name = st.selectbox(
        "Backbone",
        [*cards, *untrained],
        format_func=lambda name: (
            option_text(cards[name]) if name in cards else untrained_text(name)
        ),
        help="The neural network that reads the photo: its balanced accuracy on photos of other "
        "sources than it learned from, its time against a ResNet-50, and its size. More on "
        "Backbones.",
        key="checkpoint",
        persist_state="session",
        width=440,
    )
    if name not in cards:
        st.session_state["train_backbone"] = name
    return cards.get(name)


def show_how_to_train(name: str | None) -> None:
    """What to do about a chosen backbone that has no checkpoint yet."""
    if name not in BACKBONES:
        return
    st.info(
        f"**{BACKBONES[name].title}** has no checkpoint yet, so it cannot read photos. Train it on "
        "your labelled photos, or choose another backbone above.",
        icon=":material/model_training:",
    )
    if st.button(
        "Train it",
        type="primary",
        icon=":material/model_training:",
        disabled=not may(Role.ADMIN),
        help=only_for_admins(),
    ):
        st.switch_page("pages/5_Train.py")
    st.code(f"python -m heritage train DATA --backbone {name}", language="bash")


def inspect(photo: Photo, card: ModelCard, method: str = GRAD_CAM) -> Inspection:
    """The inspection of `photo` with `card`'s checkpoint; the model runs once for each of them.

    Args:
        method: One of `methods.METHODS`.

    Raises:
        HeritageError: The checkpoint cannot be loaded or the photo cannot be decoded.
    """
    return _inspect(photo.sha256, photo.name, card.name, _state(card), method, photo)


@st.cache_resource(max_entries=64, ttl=KEPT_FOR, show_spinner=False)
def _inspect(
    sha256: str, photo_name: str, name: str, state: CardState, method: str, _photo: Photo
) -> Inspection:
    reader = inspector(name, state)
    started = time.perf_counter()
    found = reader.inspect(_photo, method)
    _note("inspected", found, started)
    return found


def _note(event: str, found: Inspection, started: float) -> None:
    LOG.info(
        event,
        extra={
            "photo": found.sha256[:SHOWN_HASH],
            "width": found.width,
            "height": found.height,
            "checkpoint": found.backbone,
            "method": found.method,
            "milliseconds": round(1000 * (time.perf_counter() - started)),
        },
    )


def scan(photo: Photo, card: ModelCard, whole: Inspection) -> Inspection:
    """The detail scan of `photo`, under a progress bar; kept for this visitor.

    Raises:
        HeritageError: The photo cannot be decoded at full size.
    """
    kept: dict[tuple[object, ...], Inspection] = st.session_state.setdefault("scans", {})
    key = (photo.sha256, photo.name, card.name, _state(card))
    if key not in kept:
        reader = inspector(card.name, _state(card))
        words = f"Detail scan, about {duration_text(scan_seconds(card, photo.width, photo.height))}"
        bar = st.progress(0.0, words)

        def advance(done: int, tiles: int) -> None:
            bar.progress(done / tiles, f"{words}: {done} of {tiles} tiles")

        started = time.perf_counter()
        found = reader.scan(photo, whole, advance)
        _note("scanned", found, started)
        bar.empty()
        while len(kept) >= SCANS_KEPT:
            kept.pop(next(iter(kept)))
        kept[key] = found
    return kept[key]


def scan_seconds(card: ModelCard, width: int, height: int) -> float:
    """About how long a detail scan of a photo takes on this machine.

    Raises:
        HeritageError: The checkpoint cannot be loaded.
    """
    return inspector(card.name, _state(card)).scan_seconds(width, height)


def _state(card: ModelCard) -> CardState:
    pointer = tuple(str(card.pointing.get(key)) for key in ("sha256", "hot"))
    return card.sha256, card.temperature, (card.unsure[0], card.unsure[1]), *pointer


@st.cache_resource(max_entries=MODELS_KEPT, show_spinner=False)
def inspector(name: str, state: CardState) -> Inspector:
    """The inspector for a checkpoint; retrained or calibrated anew, it is loaded anew."""
    from heritage.inspection import Inspector

    return Inspector(name)


@st.cache_data(max_entries=16, ttl=KEPT_FOR, show_spinner=False)
def photo_url(sha256: str, _photo: Photo) -> str:
    """The photo as a JPEG `data:` URL, long side at most `VIEW_SIDE_PX`."""
    from heritage.exports import encode_jpeg

    return data_url("image/jpeg", encode_jpeg(_photo.pixels(long_side_px=VIEW_SIDE_PX)))


def heat_url(
    inspection: Inspection, card: ModelCard, stage: int, *, colour_map: str, hot_only: bool
) -> str:
    """The coloured heat as a PNG `data:` URL of the photo's aspect; `stage` is a cascade's."""
    kind = (_state(card), stage, inspection.method)  # what else tells heat of one photo apart
    return _heat_url(inspection.sha256, kind, colour_map, hot_only, inspection)


@st.cache_data(max_entries=64, ttl=KEPT_FOR, show_spinner=False)
def _heat_url(
    sha256: str,
    kind: tuple[CardState, int, str],
    colour_map: str,
    hot_only: bool,
    _inspection: Inspection,
) -> str:
    from scipy.ndimage import maximum_filter

    from heritage.exports import encode_png
    from heritage.overlays import colour_heat

    width, height = _inspection.width, _inspection.height
    cells = max(_inspection.grid.shape) if _inspection.method == DETAIL_SCAN else 0
    scale = min(SCAN_SIDE_PX, max(HEAT_SIDE_PX, cells)) / max(width, height)
    heat = _inspection.heat_at(max(1, round(height * scale)), max(1, round(width * scale)))
    if _inspection.absolute:
        heat = maximum_filter(heat, SEEN_PX)  # or a hairline fades where the photo is shown small
    return data_url("image/png", encode_png(colour_heat(heat, colour_map, hot_only=hot_only)))


def data_url(mime: str, data: bytes) -> str:
    """`data` as a URL that needs no server."""
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
