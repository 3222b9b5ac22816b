"""EXIF facts of a photo: when, with what, where. What is broken is left out, never an error.

Read here and not by Pillow, which warns of each broken entry.
"""

from __future__ import annotations

import math
import re
import struct
from datetime import datetime, timedelta
from typing import Any

from PIL.ExifTags import GPS, IFD, Base

Entries = dict[int, Any]

FIRST_PHOTO_YEAR = 1826
_MOST_ENTRIES = 512  # cameras write about a hundred; more can be made to fill any memory
_KINDS = {1: "B", 2: "s", 3: "H", 4: "L", 5: "LL", 7: "B", 10: "ll"}  # field type to struct


def read_exif(data: bytes) -> Entries:
    """Tag to values of the first and the EXIF directory, and under GPSInfo those of the GPS."""
    tiff = re.sub(rb"^(Exif\0\0)+", b"", data)
    first = directory(tiff)
    gps = directory(tiff, whole_number(first, IFD.GPSInfo))
    return first | directory(tiff, whole_number(first, IFD.Exif)) | {IFD.GPSInfo: gps}


def directory(tiff: bytes, start: int | None = None) -> Entries:
    """Reads one image file directory, by default the first; what is broken is left out.

    Returns:
        Tag to text, or to a tuple of one or more int; rationals as float, nan over zero.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 10:
        return {}
    start = struct.unpack_from(order + "L", tiff, 4)[0] if start is None else start
    if not 8 <= start <= len(tiff) - 2:
        return {}
    entries: Entries = {}
    end = start + 2 + 12 * min(_MOST_ENTRIES, struct.unpack_from(order + "H", tiff, start)[0])
    for at in range(start + 2, min(end, len(tiff) - 11), 12):
        tag, kind, count = struct.unpack_from(order + "HHL", tiff, at)
        fields = _KINDS.get(kind, "")
        size = struct.calcsize("=" + fields) * count
        place = at + 8 if size <= 4 else struct.unpack_from(order + "L", tiff, at + 8)[0]
        # What we ask for is short; the strip tables of a TIFF are not.
        if not 0 < size <= 4096 or place + size > len(tiff):
            continue
        layout = order + (f"{count}s" if kind == 2 else fields * count)
        values = struct.unpack_from(layout, tiff, place)
        if kind == 2:
            entries[tag] = values[0].split(b"\0")[0].decode("utf-8", "ignore").strip()
        elif len(fields) == 2:
            pairs = zip(values[::2], values[1::2], strict=True)
            entries[tag] = tuple(a / b if b else math.nan for a, b in pairs)
        else:
            entries[tag] = values
    return entries


def whole_number(entries: Entries, tag: int) -> int:
    """The first value under `tag` if it is a whole number, else 0."""
    first = entries.get(tag, (0,))[:1]
    return first[0] if first and isinstance(first[0], int) else 0


def taken_at(facts: Entries) -> datetime | None:
    """When the camera says the photo was taken; an absurd date gives way to the next tag."""
    for tag in (Base.DateTimeOriginal, Base.DateTimeDigitized, Base.DateTime):
        try:
            moment = datetime.strptime(str(facts.get(tag))[:19], "%Y:%m:%d %H:%M:%S")
        except ValueError:
            continue
        if moment.year >= FIRST_PHOTO_YEAR and moment < datetime.now() + timedelta(days=2):
            return moment
    return None


def camera(facts: Entries) -> str | None:
    """Make and model without repetition, printable, at most 80 characters."""
    texts = (" ".join(str(facts.get(tag, "")).split()) for tag in (Base.Make, Base.Model))
    make, model = ("".join(c for c in text if c.isprintable()).split() for text in texts)
    if make and model and make[0].lower() == model[0].lower():
        make = []
    return " ".join(make + model)[:80].strip() or None


def position(facts: Entries) -> dict[str, float]:
    """`latitude` and `longitude` in degrees, north and east positive; empty where not sound."""
    gps, found = facts[IFD.GPSInfo], {}
    for name, ref_tag, tag, signs, most in (
        ("latitude", GPS.GPSLatitudeRef, GPS.GPSLatitude, "NS", 90.0),
        ("longitude", GPS.GPSLongitudeRef, GPS.GPSLongitude, "EW", 180.0),
    ):
        ref, parts = gps.get(ref_tag), gps.get(tag)
        if ref not in tuple(signs) or not isinstance(parts, tuple) or len(parts) > 3:
            return {}
        value = sum(part / 60**i for i, part in enumerate(parts))
        if not (min(parts) >= 0 and value <= most):  # nan fails too
            return {}
        found[name] = round(value if ref == signs[0] else -value, 7)  # a centimetre
    return found if any(found.values()) else {}  # zeros are what cameras without a fix write
