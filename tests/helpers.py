"""Photos and folders that tests make for themselves; `from helpers import crack_photo`."""

from __future__ import annotations

import io
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFile
from sqlalchemy import create_engine, make_url, text

from heritage.backbones import get_backbone
from heritage.cards import ModelCard
from heritage.checkpoints import save_checkpoint
from heritage.classifiers import build_classifier, normalise

# The same promises on every database: SQLite always, PostgreSQL where one is named.
POSTGRESQL = os.environ.get("HERITAGE_TEST_DATABASE_URL", "")
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # of several that run tests side by side


def own_database(url=POSTGRESQL, worker=WORKER):
    """The URL of a database that no other worker empties, made where it is not there yet."""
    if not worker:
        return url
    own = make_url(url).set(database=f"heritage_{worker}")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        there = text("SELECT 1 FROM pg_database WHERE datname = :name")
        if not connection.execute(there, {"name": own.database}).first():
            connection.execute(text(f'CREATE DATABASE "{own.database}"'))
    engine.dispose()
    return own.render_as_string(hide_password=False)


@contextmanager
def meanwhile(comes, do):
    """Calls `do` once in this thread, in the midst of the block: at the first call or return of a
    Python function for which `comes(frame, event)` holds."""

    def watch(frame, event, argument):
        if comes(frame, event):
            sys.setprofile(None)
            do()

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


def wall(cracked, size=(240, 180), seed=0):
    """Plaster (h, w, 3) uint8 of a warm tone; with dark cracks that wander across if `cracked`."""
    rng = np.random.default_rng(seed)
    width, height = size
    coarse = rng.integers(120, 190, (6, 8, 1)) + np.array((45, 25, 0))
    picture = Image.fromarray(coarse.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    if cracked:
        pen = ImageDraw.Draw(picture)
        for _ in range(3):
            steps = rng.normal((0, height / 24), width / 40, (40, 2))
            steps[0] = rng.uniform(0.2, 0.8) * width, -height / 10
            points = [tuple(point) for point in steps.cumsum(axis=0)]
            pen.line(points, fill=(25, 20, 18), width=max(3, width // 50))
    grain = rng.integers(-6, 7, (height, width, 1))
    return (np.asarray(picture).astype(int) + grain).clip(0, 255).astype(np.uint8)


def crack_photo(path=None, cracked=True, size=(240, 180), seed=0):
    """The wall as the bytes of a JPEG (or of the format `path` ends in), written if `path`."""
    buffer = io.BytesIO()
    suffix = Path(path).suffix[1:].lower() if path else "jpg"
    fmt = {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    Image.fromarray(wall(cracked, size, seed)).save(buffer, fmt)
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(buffer.getvalue())
    return buffer.getvalue()


def labelled_folder(folder, per_class=12, buildings=4, size=(240, 180), first_seed=0):
    """Writes FOLDER/damaged and FOLDER/sound, each with a subfolder per building."""
    for index in range(per_class):
        for name in ("damaged", "sound"):
            crack_photo(
                folder / name / f"house{index % buildings}" / f"{index}.jpg",
                cracked=name == "damaged",
                size=size,
                seed=first_seed + 2 * index + (name == "damaged"),
            )
    return folder


def save_untrained(folder, backbone="mobilenet_v2", name="", auroc=None, **card_fields):
    """Saves random weights of `backbone` with a card that holds the least it can.

    The model has seen a few walls, so that its answers and heat maps differ between photos.
    """
    metrics = (
        {}
        if auroc is None
        else {"validation": {"n": 1, "auroc": dict.fromkeys(("value", "low", "high"), auroc)}}
    )
    card = ModelCard(
        name=name or backbone,
        backbone=backbone,
        sha256="",
        parameters=0,
        **({"metrics": metrics} | card_fields),
    )
    model = build_classifier(get_backbone(backbone))
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # running statistics become the plain average
    views = [torch.from_numpy(wall(n % 2, (128, 96), n)).permute(2, 0, 1) for n in range(8)]
    with torch.no_grad():
        model.train()(normalise(torch.stack(views), get_backbone(backbone)))
    return save_checkpoint(model, card, folder)


def only_reduced_copies_fit(monkeypatch, pixels):
    """Has Pillow run out of memory where it decodes as many pixels at once."""
    real = ImageFile.ImageFile.load

    def load(image):
        if image.width * image.height >= pixels:
            raise MemoryError
        return real(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


def wait_until(happens, patience_s=600):
    """Waits until `happens()` is true, and fails where it never is."""
    end = time.monotonic() + patience_s
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
