"""One photo in: dropped, taken by the camera, or one of the samples; kept over page changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from heritage.exports import encode_jpeg
from heritage.photos import SUFFIXES, Photo, open_photo
from heritage.web.frame import errors_in_words
from heritage.web.models import photo_url
from heritage.web.samples import SamplePhoto, sample_photos
from heritage.web.uploads import let_go

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

UPLOAD, CAMERA = "From a file", "From the camera"
_KEPT = "photo"


def keep_photo(photo: Photo) -> None:
    """Makes `photo` the one that Inspect shows."""
    st.session_state[_KEPT] = photo


def forget_photo() -> None:
    """Makes Inspect ask for a photo again."""
    st.session_state.pop(_KEPT, None)


def photo_input() -> Photo | None:
    """The photo in use; while there is none, the ways to give one."""
    photo: Photo | None = st.session_state.get(_KEPT)
    if photo is None:
        photo = _ask()
        if photo is not None:
            keep_photo(photo)
            st.rerun()
    return photo


def _ask() -> Photo | None:
    st.title("Inspect a photo")
    way = st.segmented_control(
        "Where the photo comes from", (UPLOAD, CAMERA), default=UPLOAD, label_visibility="collapsed"
    )
    photo = _from_camera() if way == CAMERA else _from_file()
    st.caption(
        "The photo is read on the machine this app runs on and kept in memory while you work. "
        "It is written to no disk and sent nowhere else."
    )
    return photo or _from_samples()


def _from_file() -> Photo | None:
    with st.container(key="dropzone"):
        given = st.file_uploader(
            "Drop one photo here: JPEG, PNG, WebP, TIFF, BMP or HEIC",
            type=list(SUFFIXES),
            max_upload_size=200,
        )
    return _opened(given, given.name) if given else None


def _from_camera() -> Photo | None:
    given = st.camera_input("Fill the frame with the wall, in daylight, without digital zoom")
    return _opened(given, "camera.jpg") if given else None


def _opened(given: UploadedFile, name: str) -> Photo | None:
    with errors_in_words():
        photo = open_photo(given.getvalue(), name)
        photo_url(photo.sha256, photo)  # a body that ends early is told here, beside the uploader
        let_go([given])
        return photo
    return None


def _from_samples() -> Photo | None:
    st.markdown("#### Or try a sample")
    columns = st.columns(len(sample_photos()), gap="medium")
    for column, sample in zip(columns, sample_photos(), strict=True):
        with column:
            st.image(_thumbnail(sample.file, sample), width="stretch", alt=sample.caption)
            if st.button(sample.title, key=f"sample-{sample.file}", width="stretch"):
                return sample.open()
            st.caption(f"{sample.caption} {sample.credit_line}.")
    return None


@st.cache_data(show_spinner=False)
def _thumbnail(file: str, _sample: SamplePhoto) -> bytes:
    pixels = _sample.open().pixels(long_side_px=640)
    return encode_jpeg(pixels[: pixels.shape[1] * 2 // 3])
