"""One photo in: dropped, taken by the camera, or one of the samples; kept over page changes."""

from __future__ import annotations

import streamlit as st

from heritage.photos import SUFFIXES, Photo, open_photo
from heritage.web.frame import errors_in_words, plain
from heritage.web.samples import SamplePhoto, sample_photos

UPLOAD, CAMERA, SAMPLE = "Upload", "Camera", "Sample"
_KEPT = "photo"


def keep_photo(photo: Photo) -> None:
    """Makes `photo` the one that Inspect shows."""
    st.session_state[_KEPT] = photo


def photo_input() -> Photo | None:
    """Asks for a photo until there is one, then shows which it is and offers another."""
    photo: Photo | None = st.session_state.get(_KEPT)
    if photo is None:
        photo = _ask()
        if photo is None:
            return None
        keep_photo(photo)
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"### {plain(photo.name)}", width="stretch")
        st.button(
            "Another photo",
            icon=":material/add_photo_alternate:",
            on_click=_forget,
            width="content",
        )
    return photo


def _forget() -> None:
    st.session_state.pop(_KEPT, None)


def _ask() -> Photo | None:
    st.markdown("### A photo, please")
    way = st.segmented_control(
        "Where from", (UPLOAD, CAMERA, SAMPLE), default=UPLOAD, label_visibility="collapsed"
    )
    if way == SAMPLE:
        return _sample_chooser()
    if way == CAMERA:
        taken = st.camera_input("Fill the frame with the wall, in daylight, without zoom")
        given = (taken.getvalue(), "camera.jpg") if taken else None
    else:
        dropped = st.file_uploader(
            "Drop one photo here: JPEG, PNG, WebP, TIFF, BMP or HEIC, at most 200 MB",
            type=list(SUFFIXES),
        )
        given = (dropped.getvalue(), dropped.name) if dropped else None
    if given is None:
        st.caption(
            "The photo is read on the machine this app runs on. "
            "It is not sent anywhere and not stored."
        )
        return None
    with errors_in_words():
        photo = open_photo(given[0], given[1])
        photo.pixels(short_side_px=64)  # a body that ends early is told here, beside the uploader
        return photo
    return None


def _sample_chooser() -> Photo | None:
    columns = st.columns(len(sample_photos()), gap="medium")
    for column, sample in zip(columns, sample_photos(), strict=True):
        with column:
            st.image(_thumbnail(sample.file, sample), width="stretch")
            if st.button(sample.title, key=f"sample-{sample.file}", width="stretch"):
                return sample.open()
            st.caption(f"{sample.caption} {sample.credit_line}.")
    return None


@st.cache_data(show_spinner=False)
def _thumbnail(file: str, _sample: SamplePhoto) -> bytes:
    from heritage.exports import encode_jpeg

    pixels = _sample.open().pixels(long_side_px=640)
    side = min(pixels.shape[:2])
    return encode_jpeg(pixels[:side, : round(side * 4 / 3)])
