"""Triage on a Ray cluster: as `triage`, for more photos than one machine is through with in time.

Ray Data streams the photos through pools of actors, as many as the cluster has room for: where it
has no GPU, each actor has a core, decodes and inspects, as pixels need not travel then; where it
has, actors with a core decode, and actors with a GPU inspect. Backpressure of Ray Data bounds what
is under way. Photos go through the network one by one, never through batches that would change
their answers in the last digit: the numbers are those of the local engine.

Exactly once. A task that dies with its worker or node is run again by Ray on the same photos. Files
are named by the photos in them, so that one written again takes the place of what may have been
left. Once the driver dies, the next run reads the keys in the whole files and asks for the others
alone. Should two drivers write into one folder at a time, rows are there twice, with the same
answers; they are read once. Ray Data's own checkpoints are not used: they keep a second list of
what is done beside the Parquet, and hold it in the memory of further actors.

The driver sends the package and the checkpoint, so the nodes need what `requirements.txt` and
`requirements-cluster.txt` name, and the photos' storage. A path without a scheme must lead to the
same folder on all nodes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is told to Ray's makers
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its log files say more than a terminal

import pyarrow as pa
import ray
import ray.data

from heritage.actors import TASKS_AHEAD, Answer, Decode, Inspect, Mark, Work
from heritage.answers import Answers, Request, Write
from heritage.buckets import Place, key_of, list_photos, place
from heritage.cards import default_name, weights_dir
from heritage.checkpoints import POINTER, load_checkpoint
from heritage.errors import StoreError, first_line
from heritage.inputs import working_side_px
from heritage.sources import Source, storable
from heritage.surveys import LONGEST_NAME

# Runs are cut into so many tasks and files, within these sizes: a task is what is done again when a
# worker is lost, a file what is not when the driver is; but each takes the driver some time.
TASKS, TASK_PHOTOS = 5000, (32, 256)
FILES, FILE_PHOTOS = 200, (32, 1000)
LOOK_EVERY_S = 2.0
LOST_STARTS = 32  # actors in a row that may die while they start, as they do on a lost node
SOURCES = pa.schema({name: pa.string() for name in ("key", "photo", "building", "error")})


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        answers: Where its rows are.
        photos: How many there are to answer for.
        asked: How many of them this run read.
        left_out: Files that are no photos.
    """

    answers: Answers
    photos: int
    asked: int
    left_out: int


def triage_on_ray(
    source: str,
    out: str,
    *,
    backbone: str | None = None,
    weights: Path | None = None,
    detail: bool = False,
    address: str | None = None,
    file_photos: int | None = None,
    resume: bool = False,
    restart: bool = False,
    listen: Callable[[int, int], None] = lambda done, photos: None,
) -> Outcome:
    """Inspects the photos in a folder that have no row in `out` yet.

    Args:
        source: Folder or URL of the photos.
        out: Folder or URL for the answers.
        backbone: Name of the checkpoint; by default the best.
        weights: Folder of the checkpoints.
        detail: Scan each photo in detail as well.
        address: Of the cluster; by default one of this machine alone, for this run.
        file_photos: Rows in a Parquet file, more or less; by default by the number of photos.
        resume: Go on with what is there.
        restart: Forget what is there.
        listen: Told now and then how many photos are written down, and how many there are.

    Raises:
        HeritageError: There is no photo, the checkpoint does not fit what is there, or the cluster
            or a storage cannot be used. What was written is kept, to go on with.
    """
    photos, answers = place(source), Answers(place(out))
    name = backbone or default_name(weights)
    checkpoint = load_checkpoint(name, weights)
    listing = list_photos(photos)
    if not listing.sources:
        raise StoreError(source, "there is no photo in it", "name a folder of photos")
    answers.begin(Request(photos.identity, checkpoint.card, detail), resume=resume, restart=restart)
    missing = missing_photos(listing.sources, photos, answers.keys())
    file_photos = file_photos or _share(len(missing), FILES, FILE_PHOTOS)
    outcome = Outcome(answers, len(listing.sources), len(missing), listing.left_out)
    if len(missing):
        with _connected(address):
            work = Work(
                photos,
                answers.place,
                name,
                ray.put(_checkpoint_files(name, weights)),
                working_side_px(checkpoint.backbone),
                detail,
            )
            with _watched(answers, outcome.photos, listen):
                _stream(missing, work, answers, file_photos)
        Mark.remove_all(answers.place)
    return outcome


def missing_photos(sources: Iterable[Source], photos: Place, done: set[str]) -> pa.Table:
    """What is to be read, as columns: a tenth of the memory of as many objects."""
    kept = ((key_of(source, photos), storable(source)) for source in sources)
    rows = [
        (key, source.photo, source.building[:LONGEST_NAME], source.error)
        for key, source in kept
        if key not in done
    ]
    columns = zip(*rows, strict=True) if rows else [[]] * len(SOURCES)
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=SOURCES)


def _checkpoint_files(name: str, weights: Path | None) -> dict[str, bytes]:
    folder = weights or weights_dir()
    files = [folder / f"{name}{suffix}" for suffix in (".json", ".safetensors", POINTER)]
    return {file.name: file.read_bytes() for file in files if file.exists()}


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to the cluster, or a cluster of this machine while the block runs."""
    package = {"py_modules": [str(Path(__file__).parent)]}
    given: dict[str, Any] = (
        {"address": address, "runtime_env": package}
        if address
        else {"address": "local", "include_dashboard": False}
    )
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.init(log_to_driver=False, logging_level=logging.WARNING, **given)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise StoreError(
            address or "Ray", f"the cluster cannot be reached ({first_line(error)})", "start it"
        ) from error
    try:
        yield
    except (ray.exceptions.RayError, OSError) as error:
        raise StoreError(
            address or "Ray",
            f"the run broke off ({first_line(error)})",
            "what is written is kept: see to it and add --resume",
        ) from error
    finally:
        ray.shutdown()


@contextmanager
def _watched(answers: Answers, photos: int, listen: Callable[[int, int], None]) -> Iterator[None]:
    """Counts what is written while the block runs; Ray's own bars count blocks, not photos."""
    ended = Event()

    def look() -> None:
        rows: dict[str, int] = {}
        while not ended.wait(LOOK_EVERY_S):
            with suppress(OSError):
                rows = answers.counted(rows)
                listen(min(sum(rows.values()), photos), photos)

    watcher = Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    listen(photos, photos)


def _stream(missing: pa.Table, work: Work, answers: Answers, file_photos: int) -> None:
    """Has the photos decoded, inspected and written down, and returns when all are."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_consecutive_actor_init_deaths = LOST_STARTS
    task_photos = _share(len(missing), TASKS, TASK_PHOTOS)
    starts = range(0, len(missing), task_photos)
    rows = ray.data.from_arrow([missing.slice(start, task_photos) for start in starts])
    core: dict[str, Any] = {"batch_format": "pyarrow", "fn_constructor_args": (work,)}
    cores, gpus = (int(ray.cluster_resources().get(kind, 0)) for kind in ("CPU", "GPU"))
    on_cores = core | {"compute": _pool(cores, len(starts)), "num_cpus": 1, "batch_size": None}
    if gpus:
        on_gpus = core | {"compute": _pool(gpus, len(starts)), "num_cpus": 0, "num_gpus": 1}
        read = rows.map_batches(Decode, **on_cores)
        found = read.map_batches(Answer, batch_size=task_photos, **on_gpus)
    else:
        found = rows.map_batches(Inspect, **on_cores)
    written = found.map_batches(
        Write,
        batch_format="pyarrow",
        batch_size=_whole_tasks(file_photos, task_photos),
        fn_constructor_args=(answers.place,),
        num_cpus=0,  # it takes next to none
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=sum(node["Alive"] for node in ray.nodes())
        ),
    )
    written.materialize()


def _whole_tasks(photos: int, task_photos: int) -> int:
    """As many photos or a few more, so that no file is cut in two by the tasks' sizes."""
    return photos if photos < task_photos else -(-photos // task_photos) * task_photos


def _share(photos: int, parts: int, sizes: tuple[int, int]) -> int:
    least, most = sizes
    return min(max(photos // parts, least), most)


def _pool(offered: int, tasks: int) -> ray.data.ActorPoolStrategy:
    """Actors for all that the cluster offers, or will: nodes that come later get theirs."""
    return ray.data.ActorPoolStrategy(
        min_size=1,
        initial_size=max(1, min(offered, tasks // TASKS_AHEAD)),
        max_tasks_in_flight_per_actor=TASKS_AHEAD,
    )
