"""Server time of the page Inspect on a 24-MP photo, and of four sessions at once.

    python -m benchmarks.page [--rounds 9]

Colours, tinting, boxes and opacity must not run the network: the runs are counted. Opacity itself
moves in the browser; what is timed is the run of the script once the slider is let go.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

SIZE_PX = (6000, 4000)
PAGE = str(Path(__file__).resolve().parent.parent / "pages" / "1_Inspect.py")
PHOTOS_EACH = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HERITAGE_SURVEYS"] = folder
        changes(rounds)
    sessions(rounds)


def changes(rounds: int) -> None:
    """Prints what a change of look costs on the server."""
    from streamlit.testing.v1 import AppTest

    from heritage.engines import Engine
    from heritage.exports import encode_jpeg

    runs = []
    real = Engine.answer
    Engine.answer = lambda *given: (runs.append(1), real(*given))[1]  # type: ignore[method-assign]
    app = AppTest.from_file(PAGE, default_timeout=120).run()
    app.file_uploader[0].set_value(("tower.jpg", encode_jpeg(photo(SIZE_PX)), "image/jpeg")).run()
    first = len(runs)
    print("Server time on a photo of 24 MP, milliseconds, median (least to most)\n")
    print("| change | ms | inferences |\n|---|--:|--:|")
    looks: dict[str, Callable[[int], object]] = {
        "another colour map": lambda n: app.selectbox(key="colour_map").set_value(
            ("jet", "viridis", "cividis", "inferno")[n % 4]
        ),
        "tinted or only where hot": lambda n: app.toggle(key="hot_only").set_value(bool(n % 2)),
        "boxes": lambda n: app.toggle(key="boxes").set_value(bool(n % 2)),
        "opacity let go": lambda n: app.session_state.__setitem__("opacity", 20 + n),
    }
    for title, change in looks.items():
        times = []
        for n in range(rounds):
            change(n)
            started = time.perf_counter()
            app.run()
            times.append((time.perf_counter() - started) * 1000)
        print(f"| {title} | {told(times)} | {len(runs) - first} |")


def sessions(rounds: int) -> None:
    """Prints the time of four jobs at once against the same four in a row."""
    from heritage.exports import encode_jpeg
    from heritage.inspection import Inspector
    from heritage.photos import open_photo

    inspector = Inspector()
    photos = [open_photo(encode_jpeg(photo((1600, 1200), seed)), "x.jpg") for seed in range(4)]

    def job(one: int) -> list[float]:
        return [inspector.inspect(photos[one]).grid.sum() for _ in range(PHOTOS_EACH)]

    ratios, same = [], True
    for _ in range(rounds):
        started = time.perf_counter()
        alone = [job(one) for one in range(4)]
        in_a_row = time.perf_counter() - started
        with ThreadPoolExecutor(4) as pool:
            started = time.perf_counter()
            together = list(pool.map(job, range(4)))
            ratios.append((time.perf_counter() - started) / in_a_row)
        same &= together == alone
    print(
        f"\nFour sessions at once take {told(ratios, 2)} of the time of the same in a row; ", end=""
    )
    print(f"answers identical: {same}")


def photo(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A made wall (h, w, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(90, 200, (30, 40, 3)).astype(np.uint8))
    pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
    return (pixels + rng.integers(-12, 13, pixels.shape, np.int16)).clip(0, 255).astype(np.uint8)


def told(values: list[float], digits: int = 0) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


if __name__ == "__main__":
    main()
