"""Triage on Ray against the local engine: per photo, by number of photos, and with a node lost.

    python -m benchmarks.scale cost [--photos 1000] [--size 240x180]    # ratios, and memory
    python -m benchmarks.scale loss [--photos 1000]                     # a node dies in mid-run
    python -m benchmarks.scale driver [--photos 100000]                 # listing and CSV alone

Both engines get the same cores and write the same CSV, which is compared. A command's fixed cost
(start of Python, the cluster's actors) is told from the cost of a photo by a second run with few
photos. Memory is the largest resident size of a process, as shared pages would count many times in
a sum. Nodes are processes of this machine, of one core each; the head of the cluster does no work.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from heritage.answers import SCHEMA, Answers
from heritage.bands import BandThresholds
from heritage.buckets import place
from heritage.priority import ranked
from heritage.sources import Source
from heritage.spreadsheets import priority_csv

DISTINCT = 24
FEW = 256  # enough for every actor to be started
ACTOR = "ray::"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cost", "loss", "driver"))
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--size", default="240x180", metavar="WIDTHxHEIGHT")
    parser.add_argument("--backbone", default="mobilenet_v3_large")
    parser.add_argument("--nodes", type=int, default=os.cpu_count() or 2)
    given = parser.parse_args()
    if given.what == "cost" and given.photos <= 2 * FEW:
        parser.error(
            f"--photos {given.photos}: cost compares them with a run of {FEW}; "
            f"give more than {2 * FEW}"
        )
    if given.what == "driver":
        driver(given.photos)
        return
    width, height = map(int, given.size.split("x"))
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        home = Path(name)
        photos = make_photos(home / "photos", given.photos, (width, height))
        print(
            f"{given.photos:,} photos of {width} × {height} px ({size_mb(photos):.0f} MB), "
            f"{given.backbone}, {given.nodes} nodes of one core on {os.cpu_count()} cores\n"
        )
        command = Command(home, given.backbone)
        (cost if given.what == "cost" else loss)(command, photos, given.nodes)


def make_photos(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Masonry-like noise of many scales; no two with the same bytes, 500 a folder."""
    rng = np.random.default_rng(0)
    first: list[bytes] = []
    for index in range(count):
        path = folder / f"house{index // 500}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index < DISTINCT:
            picture = np.zeros((size[1], size[0], 3), np.float32)
            for cells in (8, 40, 200, 1000):
                layer = rng.normal(0, 22, (cells * 3 // 4, cells, 3)).clip(-60, 60) + 64
                scaled = Image.fromarray(layer.astype(np.uint8)).resize(size, Image.BILINEAR)
                picture += np.asarray(scaled, np.float32) - 32
            picture += rng.normal(0, 5, (*picture.shape[:2], 1))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path, quality=90)
            first.append(path.read_bytes())
        else:
            path.write_bytes(first[index % DISTINCT] + str(index).encode())
    return folder


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.jpg")) / 1e6


@dataclass(frozen=True)
class Ran:
    """How a command went; `driver_mb` and `actor_mb` are the largest resident sizes."""

    seconds: float
    driver_mb: float
    actor_mb: float
    table: bytes


@dataclass(frozen=True)
class Command:
    """`python -m heritage triage`, as a user gives it."""

    home: Path
    backbone: str

    def start(self, source: Path, *more: object) -> subprocess.Popen[bytes]:
        self.csv.unlink(missing_ok=True)
        given = [source, "--csv", self.csv, "--backbone", self.backbone, *more]
        return subprocess.Popen(  # nosec B603
            [sys.executable, "-m", "heritage", "triage", *map(str, given)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def run(self, source: Path, *more: object) -> Ran:
        started = time.perf_counter()
        with peaks() as most:
            process = self.start(source, *more)
            most["driver"] = process.pid
            if process.wait() != 0:
                sys.exit(f"the command failed: {more}")
        seconds = time.perf_counter() - started
        return Ran(seconds, most["driver_mb"], most["actor_mb"], self.csv.read_bytes())

    @property
    def csv(self) -> Path:
        return self.home / "out.csv"


@contextmanager
def peaks() -> Iterator[dict[str, float]]:
    """Largest resident sizes while the block runs, of the process `driver` and of any actor."""
    most: dict[str, float] = {"driver": 0, "driver_mb": 0, "actor_mb": 0}
    ended = Event()

    def look() -> None:
        while not ended.wait(0.5):
            for process in psutil.process_iter(["pid", "cmdline", "memory_info"]):
                info = process.info
                if not info["memory_info"] or not info["cmdline"]:
                    continue
                megabytes = info["memory_info"].rss / 1e6
                if info["pid"] == most["driver"]:
                    most["driver_mb"] = max(most["driver_mb"], megabytes)
                elif info["cmdline"][0].startswith(ACTOR):
                    most["actor_mb"] = max(most["actor_mb"], megabytes)

    watcher = Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


@contextmanager
def cluster(nodes: int) -> Iterator[tuple[str, list[list[psutil.Process]]]]:
    """Address of a cluster on this machine, and the processes of its nodes."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_AUTH_MODE"] = "disabled"  # it is on loopback, for this run
    from ray.cluster_utils import Cluster

    options = {"object_store_memory": 200_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
    try:
        added = [made.add_node(num_cpus=1, **options) for _ in range(nodes)]
        yield (
            made.address,
            [
                [
                    psutil.Process(i.process.pid)
                    for several in node.all_processes.values()
                    for i in several
                ]
                for node in added
            ],
        )
    finally:
        made.shutdown()


def cost(command: Command, photos: Path, nodes: int) -> None:
    """Prints a table of both engines: seconds in all, per photo, fixed, and memory."""
    some = photos.parent / "few"
    for path in sorted(photos.rglob("*.jpg"))[:FEW]:
        some.mkdir(exist_ok=True)
        (some / path.name).symlink_to(path)
    count = len(list(photos.rglob("*.jpg")))
    print("| engine | s in all | s fixed | ms a photo | driver, MB | actor, MB |")
    print("|---|--:|--:|--:|--:|--:|")
    command.run(some)  # what is read for the first time comes from the disk
    local_ms = row("local", command.run(some), local := command.run(photos), count)
    with cluster(nodes) as (address, _):
        ray = ("--engine", "ray", "--ray-address", address, "--out")
        command.run(some, *ray, command.home / "first-answers")
        few = command.run(some, *ray, command.home / "few-answers")
        many = command.run(photos, *ray, command.home / "answers")
        ray_ms = row("Ray", few, many, count)
    same = "the same" if many.table == local.table else "NOT THE SAME"
    print(
        f"\nA photo costs {ray_ms / local_ms:.2f} × the local engine's, "
        f"{ray_ms - local_ms:+.1f} ms. The tables are {same}."
    )


def row(name: str, few: Ran, many: Ran, count: int) -> float:
    """Prints one line; returns milliseconds per photo."""
    photo_s = (many.seconds - few.seconds) / (count - FEW)
    fixed_s = few.seconds - FEW * photo_s
    print(
        f"| {name} | {many.seconds:.1f} | {fixed_s:.1f} | {1000 * photo_s:.1f} "
        f"| {many.driver_mb:.0f} | {many.actor_mb:.0f} |",
        flush=True,
    )
    return 1000 * photo_s


def loss(command: Command, photos: Path, nodes: int) -> None:
    """Prints what became of a run whose first node was killed after a third of the photos."""
    local = command.run(photos)
    count = len(list(photos.rglob("*.jpg")))
    print("| run | s | photos written when the node died | lost | doubled | table |")
    print("|---|--:|--:|--:|--:|---|")
    for name, doomed in (("all nodes live", False), ("a node is killed", True)):
        out = command.home / name.replace(" ", "-")
        answers = Answers(place(str(out)))
        with cluster(nodes) as (address, processes):
            started = time.perf_counter()
            given = ("--engine", "ray", "--ray-address", address, "--out", out)
            process = command.start(photos, *given)
            written = 0
            while doomed and process.poll() is None and written < count / 3:
                time.sleep(0.1)
                written = sum(answers.counted({}).values())
            if doomed:
                kill(processes[0])
            process.wait()
            seconds = time.perf_counter() - started
        same = "the same" if command.csv.read_bytes() == local.table else "NOT THE SAME"
        lost, doubled = count - len(answers.keys()), answers.doubled()
        print(
            f"| {name} | {seconds:.1f} | {written or ''} | {lost} | {doubled} | {same} |",
            flush=True,
        )


def driver(count: int) -> None:
    """Prints what the process that gives the command needs for `count` photos, none inspected."""
    from heritage.cluster import missing_photos

    print("| step | photos | s | MB more at its fullest |")
    print("|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        there = place(name)
        with step("listing", count):
            names = (f"parish{i // 5000}/house{i // 500}/IMG_{i:08d}.jpg" for i in range(count))
            sources = [Source(photo, photo.split("/")[1], f"{name}/{photo}") for photo in names]
            table = missing_photos(sources, there, set())
        del sources
        answers = Answers(place(f"{name}/answers"))
        write_rows(table, Path(answers.parts))
        with step("what is done, for --resume", count):
            answers.keys()
        with step("CSV", count):
            priority_csv(ranked(answers.rows(), BandThresholds()))


def write_rows(table: pa.Table, folder: Path) -> None:
    """Answers as they come, with hashes at random: no two photos are alike."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    regions = [{"x": 10, "y": 20, "width": 300, "height": 200, "share_percent": 61.5}]
    for start in range(0, len(table), 1000):
        rows = [
            {
                **values,
                **{"sha256": rng.bytes(32).hex(), "perceptual_hash": rng.bytes(8).hex()},
                **{"width": 4000, "height": 3000, "backbone": "mobilenet_v3_large"},
                **{"damage_percent": round(100 * rng.random(), 2), "affected_percent": 4.5},
                **{"heat_map": "grad_cam", "evidence": True, "unsure": False, "warnings": []},
                **{"regions": regions, "heat": rng.bytes(250)},
            }
            for values in table.slice(start, 1000).to_pylist()
        ]
        pa.parquet.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / f"{start}.parquet")


@contextmanager
def step(name: str, count: int) -> Iterator[None]:
    """Prints how long the block takes, and how much more is resident at its fullest."""
    me = psutil.Process()
    before = most = me.memory_info().rss
    ended = Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(0.01):
            most = max(most, me.memory_info().rss)

    watcher = Thread(target=look, daemon=True)
    watcher.start()
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    ended.set()
    watcher.join()
    print(f"| {name} | {count:,} | {seconds:.1f} | {(most - before) / 1e6:.0f} |", flush=True)


def kill(roots: Sequence[psutil.Process]) -> None:
    """Ends a node as a power cut does: all its processes at once."""
    family = [child for root in roots for child in (root, *root.children(recursive=True))]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    main()
