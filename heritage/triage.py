"""Many photos: read, inspect, write down; stoppable and resumable anywhere.

A photo counts as done once it is written down, so that a process killed at any moment loses nothing
it has reported. One bad file is one row with its error.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
import torch
from PIL import Image

from heritage.duplicates import perceptual_hash
from heritage.engines import out_of_memory
from heritage.errors import (
    CheckpointError,
    DatabaseAwayError,
    HeritageError,
    PhotoError,
    StoreError,
    first_line,
    one_line,
)
from heritage.exports import encode_jpeg
from heritage.inspection import Inspection, Inspector
from heritage.photos import Photo, open_photo
from heritage.processes import worker_name
from heritage.sources import can_be_opened
from heritage.store.files import SUFFIX, UNKNOWN_SUFFIX
from heritage.surveys import (
    DONE,
    FAILED,
    RUNNING,
    SILENT_S,
    STOPPED,
    STOPPING,
    Finding,
    KeptPhoto,
    PhotoFacts,
    Run,
    SurveyStore,
    answers_alike,
)
from heritage.words import NO_MEMORY, SAVE_MEMORY, no_scan

LOG = logging.getLogger(__name__)
THUMBNAIL_SIDE_PX = 256
HEARTBEAT_S = 1.0
PULSE_S = SILENT_S / 6
MOST_TRIES = 3
SAVE_ANEW = "save it anew with another program"
MOST_BROKEN = 3  # photos in a row that end in what was not foreseen, before it is not their fault
AWAY_S = 300.0  # how long a database that does not answer is waited for
GIVEN_UP = "reading it has brought the program down again and again; save it anew with another one"


@dataclass(frozen=True)
class _Read:
    """A photo read and inspected; without a finding where another with the same bytes has it.

    Attributes:
        data: Its bytes, where they could be had.
        small: JPEG bytes of its small picture.
        broken: What came of it, reason and advice, where that was not foreseen.
    """

    kept: KeptPhoto
    sha256: str = ""
    suffix: str = ""
    data: bytes = b""
    small: bytes = b""
    photo: Photo | None = None
    near: str = ""
    finding: Finding | None = None
    broken: str = ""


def triage(
    store: SurveyStore,
    run_id: int,
    *,
    weights: Path | None = None,
    root: Path | None = None,
    keep: bool = True,
    listen: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Inspects what a run is not through with yet.

    Args:
        weights: Folder of the checkpoints.
        root: The only folder that photos may be read from where they lie.
        keep: Copy the photos into the store.
        listen: Called after each photo with the run as it then stands.

    A database that does not answer is waited for, `AWAY_S` at most; then the run is left like one
    whose worker died, for the next to take up.

    Returns:
        The run as it ended: done, stopped by a user, or still another's.

    Raises:
        HeritageError: The checkpoint is gone or fails at every photo, or the disk is full; the run
            is marked failed and can be resumed. Or the database stayed away.
    """
    me = worker_name()
    before = store.run(run_id).status
    if not store.claim(run_id, me):
        return store.run(run_id)
    try:
        with _pulse(store, run_id, me):
            inspector = _inspector(store.run(run_id), weights)
            reader = partial(_Reader, store, inspector=inspector, root=root, keep=keep)
            return _patiently(store, run_id, reader, listen, died=before in (RUNNING, STOPPING))
    except DatabaseAwayError:
        raise
    except HeritageError as error:
        _give_up(store, run_id, str(error))
        raise
    except OSError as error:
        failure = StoreError(
            "surveys", f"nothing more can be written ({error.strerror})", "make room and resume"
        )
        _give_up(store, run_id, str(failure))
        raise failure from error
    except KeyboardInterrupt:
        store.release(run_id, me, STOPPED)
        raise


@contextmanager
def _pulse(store: SurveyStore, run_id: int, me: str) -> Iterator[None]:
    """Tells other computers that this worker lives, also while one photo takes minutes."""
    over = Event()

    def tell() -> None:
        while not over.wait(PULSE_S):
            with suppress(HeritageError):
                store.heartbeat(run_id, me, 0.0)

    thread = Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _told(run: Run) -> dict[str, object]:
    """What the log says of a run."""
    return {"run": run.id, "checkpoint": run.checkpoint, "status": run.status, "done": run.done}


def _give_up(store: SurveyStore, run_id: int, words: str) -> None:
    """Marks a run as failed, unless that cannot be written either; what is told is the cause."""
    LOG.exception("run broke off", extra={"run": run_id})
    with suppress(HeritageError):
        store.release(run_id, worker_name(), FAILED, words)


def _patiently(
    store: SurveyStore,
    run_id: int,
    reader: Callable[[Run], _Reader],
    listen: Callable[[Run], None],
    *,
    died: bool,
) -> Run:
    """Works a run off; when the database has been away, again from what is written down there."""
    away_since: float | None = None

    def heard(run: Run) -> None:
        nonlocal away_since
        away_since = None
        listen(run)

    for pause_s in chain((0.5, 1.0, 2.0, 4.0), repeat(8.0)):
        try:
            run = store.run(run_id)
            LOG.info("run begins", extra=_told(run) | {"photos": run.photos, "detail": run.detail})
            while True:
                ended = _work(store, run, reader(run), heard, died=died)
                if ended == DONE:
                    store.settle_incoming(run_id)
                if store.release(run_id, worker_name(), ended):
                    break
                run, died = store.run(run_id), False
            run = store.run(run_id)
            LOG.info("run ends", extra=_told(run) | {"failed": run.failed, "seconds": run.seconds})
            return run
        except DatabaseAwayError as error:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > AWAY_S:
                raise
            LOG.warning("database away", extra={"run": run_id, "reason": error.reason})
            died = False
            time.sleep(pause_s)
    raise AssertionError("the pauses never end")


def _inspector(run: Run, weights: Path | None) -> Inspector:
    inspector = Inspector(run.checkpoint, folder=weights)
    now = inspector.card
    if not answers_alike(now, run.card, detail=run.detail):
        raise StoreError(
            run.checkpoint,
            "the checkpoint was trained or calibrated anew since this run was asked for",
            "start a new run, so that all photos are read by the same one",
        )
    return inspector


def _work(
    store: SurveyStore,
    run: Run,
    reader: _Reader,
    listen: Callable[[Run], None],
    *,
    died: bool,
) -> str:
    answered = store.inspected(run.id)
    done, failed, broken = run.done, run.failed, 0
    ahead: deque[Future[_Read]] = deque()
    last = time.monotonic()
    worked = run.seconds
    pending = _pending(store, run.id)
    suspects = islice(pending, 2 * threads() + 2) if died else ()
    with (
        closing(reader),
        ThreadPoolExecutor(max_workers=threads()) as pool,
        closing(_in_order(pool, reader, pending, ahead)) as in_order,
    ):
        for read in chain(_one_by_one(reader, suspects), in_order):
            if not (read.broken or read.finding or read.sha256 in answered):
                read = reader.inspect(read)
            if read.broken and read.sha256 not in answered:
                wait(ahead)  # so that nothing else takes memory meanwhile
                read = reader.read(read.kept, again=True)
            twin = answered.get(read.sha256)
            if twin is not None:
                finding: Finding | int = twin
            else:
                finding = read.finding or Finding(error=read.broken)
                if not finding.error:
                    answered[read.sha256] = read.kept.id
                failed += bool(finding.error)
                broken = broken + 1 if read.broken else broken if finding.error else 0
                if broken == MOST_BROKEN:
                    raise _broken(run, read.broken)
            if not store.record(run.id, read.kept.id, _facts(read), finding, worker=worker_name()):
                return STOPPED  # taken for dead, as after a long silence, and followed by another
            # Who deleted the last other survey with it meanwhile may have removed the file.
            reader.bring_in(read)
            reader.brought_in.discard(read.sha256)
            done += 1
            now = time.monotonic()
            stop = False
            if now - last > HEARTBEAT_S:
                stop = not store.heartbeat(run.id, worker_name(), now - last)
                worked, last = worked + now - last, now
            listen(_as_it_stands(run, done, failed, worked))
            if stop:
                return STOPPED
    goes_on = store.heartbeat(run.id, worker_name(), time.monotonic() - last)
    return DONE if goes_on else STOPPED


def _pending(store: SurveyStore, run_id: int) -> Iterator[KeptPhoto]:
    """What is to be read, and then what was added meanwhile."""
    given: set[int] = set()
    while new := [photo for photo in store.pending(run_id) if photo.id not in given]:
        given |= {photo.id for photo in new}
        yield from new


def _as_it_stands(run: Run, done: int, failed: int, seconds: float) -> Run:
    return replace(run, done=done, failed=failed, seconds=seconds)


def threads() -> int:
    """One a core, up to eight: each reads, decodes and inspects a photo by itself."""
    return min(8, os.cpu_count() or 2)


def share_cores() -> None:
    """Has every photo inspected by one thread: several at once is quicker than one by several."""
    torch.set_num_threads(1)


def _in_order(
    pool: ThreadPoolExecutor,
    reader: _Reader,
    photos: Iterable[KeptPhoto],
    ahead: deque[Future[_Read]],
) -> Generator[_Read, None, None]:
    """Reads a few photos ahead and hands them out in their order; memory stays flat. Closed, it
    begins no other."""
    try:
        for photo in photos:
            ahead.append(pool.submit(reader.read, photo))
            if len(ahead) > 2 * threads():
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()


def _one_by_one(reader: _Reader, photos: Iterable[KeptPhoto]) -> Iterator[_Read]:
    """Reads what may have brought a process down; who does so time and again is given up."""
    in_hand = reader.store.folder / f"in-hand-{reader.run_id}"
    try:
        last, tries = (int(part) for part in in_hand.read_text().split())
    except (OSError, ValueError):
        last, tries = 0, 0
    for photo in photos:
        tries = tries + 1 if photo.id == last else 1
        last = photo.id
        if tries > MOST_TRIES:
            yield _Read(photo, photo.sha256, photo.suffix, finding=Finding(error=GIVEN_UP))
            continue
        in_hand.parent.mkdir(parents=True, exist_ok=True)
        in_hand.write_text(f"{last} {tries}")
        yield reader.read(photo)
    in_hand.unlink(missing_ok=True)


class _Reader:
    """Brings photos in, from where they lie into the store, and has each content inspected once.

    Of two with the same bytes the first to be read is inspected; only where that is the one further
    on, and not done when the other's turn comes, are both.

    Attributes:
        brought_in: Hashes of what was brought into the store and is not written down yet.
    """

    def __init__(
        self, store: SurveyStore, run: Run, inspector: Inspector, root: Path | None, keep: bool
    ) -> None:
        self.store, self.inspector, self.root, self.keep = store, inspector, root, keep
        self.run_id, self.detail = run.id, run.detail
        self._taken, self._taking = set(store.inspected(run.id)), Lock()
        self.brought_in: set[str] = set()

    def close(self) -> None:
        """Takes back what was read ahead: no row names it, so no survey's end would remove it."""
        with suppress(HeritageError, OSError):
            self.store.forget_unused(self.brought_in)

    def bring_in(self, read: _Read) -> _Read:
        """Keeps a photo and its small picture in the store, unless they are there.

        Raises:
            OSError: The store cannot be written.
        """
        self.brought_in.add(read.sha256)
        if read.data and read.suffix:
            self.store.files.keep(read.data, read.sha256, read.suffix)
        if read.small:
            self.store.files.keep_thumbnail(read.sha256, read.small)
        return read

    def read(self, kept: KeptPhoto, *, again: bool = False) -> _Read:
        """Reads and inspects one photo; what is wrong with it is told in the finding, and what
        nobody foresaw, as a lack of memory, in `broken`.

        Args:
            again: Inspect it although another with the same bytes is.

        Raises:
            OSError: The store cannot be written.
        """
        try:
            read, pixels = self._decoded(kept)
        except (HeritageError, OSError):
            raise
        except Exception as error:
            return _Read(kept, kept.sha256, kept.suffix, broken=unforeseen(error))
        if pixels is None:
            return read
        with self._taking:
            first = read.sha256 not in self._taken
            self._taken.add(read.sha256)
        return self.inspect(read, pixels) if first or again else read

    def _decoded(self, kept: KeptPhoto) -> tuple[_Read, np.ndarray | None]:
        """A photo brought into the store, and its pixels; none where it cannot be read."""
        sha256, suffix = kept.sha256, kept.suffix
        try:
            data = self.store.photo_bytes(kept, self.root)
        except PhotoError as error:
            return _Read(kept, sha256, suffix, finding=failure(error)), None
        try:
            photo = open_photo(data, kept.name)
            sha256 = photo.sha256
            suffix = suffix or (SUFFIX[photo.format] if self.keep else "")
            pixels = photo.pixels(short_side_px=self.inspector.working_side_px)
        except PhotoError as error:
            sha256 = hashlib.sha256(data).hexdigest()
            suffix = suffix or (UNKNOWN_SUFFIX if self.keep else "")
            refused = _Read(kept, sha256, suffix, data, finding=failure(error))
            return self.bring_in(refused), None
        small = thumbnail(pixels)
        jpeg, near = encode_jpeg(small, quality=80), f"{perceptual_hash(small):016x}"
        return self.bring_in(_Read(kept, sha256, suffix, data, jpeg, photo, near)), pixels

    def inspect(self, read: _Read, pixels: np.ndarray | None = None) -> _Read:
        """Inspects a photo; without its pixels one whose twin, further on, was quicker to be read
        and is not done yet."""
        photo, ask = read.photo, self.inspector
        assert photo is not None
        try:
            whole = ask.inspect(photo) if pixels is None else ask.answer(photo, pixels)
            return replace(read, finding=finding_of(ask, photo, whole, detail=self.detail))
        except CheckpointError as error:  # if it does so at every photo, the run ends
            return replace(read, broken=unforeseen(error))
        except (HeritageError, OSError):
            raise
        except Exception as error:
            return replace(read, broken=unforeseen(error))


def unforeseen(error: Exception) -> str:
    """Reason and advice of what befell one photo."""
    LOG.warning("photo broke off", exc_info=error)
    if out_of_memory(error):
        return f"{NO_MEMORY}; {SAVE_MEMORY}"
    if isinstance(error, HeritageError):
        return f"it could not be read by the backbone ({error.reason}); {error.advice}"
    told = one_line(first_line(error))
    return f"it could not be read by the backbone ({told}); {SAVE_ANEW}"


def failed_in_a_row(words: str) -> str:
    """What is wrong where it is no longer the photos' fault; `words` is what the last one got."""
    reason = words.partition("; ")[0]
    return f"failed at {MOST_BROKEN} photos in a row, the last time because {reason}"


def all_broken(words: str) -> str:
    """What to do where it is no longer the photos' fault."""
    told = words.partition("; ")[2]
    if told in (SAVE_MEMORY, SAVE_ANEW):
        return "see to memory and GPU, and resume; if it is the photos, save smaller copies of them"
    return f"{told}, and resume"


def _broken(run: Run, words: str) -> CheckpointError:
    return CheckpointError(run.checkpoint, f"it {failed_in_a_row(words)}", all_broken(words))


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """A small copy of RGB (h, w, 3), long side at most `THUMBNAIL_SIDE_PX`."""
    small = Image.fromarray(pixels)
    small.thumbnail((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX))
    return np.asarray(small)


def finding_of(inspector: Inspector, photo: Photo, whole: Inspection, *, detail: bool) -> Finding:
    """What is kept of a photo's inspection, with a detail scan where that is wanted and can be."""
    if not detail:
        return as_finding(whole)
    try:
        return as_finding(inspector.scan(photo, whole))
    except PhotoError as error:  # it could be decoded small, and not at its full size
        return as_finding(replace(whole, warnings=(*whole.warnings, no_scan(error))))


def as_finding(inspection: Inspection) -> Finding:
    """What the store keeps of an inspection."""
    return Finding(
        damage_percent=inspection.damage_percent,
        affected_percent=inspection.affected_percent,
        unsure=inspection.unsure,
        evidence=inspection.evidence,
        regions=inspection.regions,
        warnings=inspection.warnings,
        heat=inspection.grid,
        absolute=inspection.absolute,
        method=inspection.method,
    )


def _facts(read: _Read) -> PhotoFacts | None:
    if read.photo:
        told = told_by(read.photo)
        return PhotoFacts(read.sha256, read.suffix, perceptual_hash=read.near, **told)
    if read.sha256 == read.kept.sha256:
        return None  # what is known of it already stays: other runs have read it
    return PhotoFacts(read.sha256, read.suffix)


def told_by(photo: Photo) -> dict[str, Any]:
    """What a photo tells of itself, as it is kept."""
    return {
        "width": photo.width,
        "height": photo.height,
        "taken_at": photo.taken_at.isoformat() if photo.taken_at else None,
        "camera": photo.camera,
        "latitude": photo.latitude,
        "longitude": photo.longitude,
    }


def failure(error: PhotoError) -> Finding:
    """The error without the name, which stands in its own column."""
    LOG.info("photo refused", extra={"reason": error.reason})
    return Finding(error=f"{error.reason}; {error.advice}")


def readable_failures(store: SurveyStore, run_id: int) -> list[int]:
    """Photos a run could not read whose files may be others by now, or are there again.

    What brought the program down is not among them.
    """
    return [
        photo.id
        for photo, error in store.failures(run_id)
        if error != GIVEN_UP and can_be_opened(photo.source)
    ]


def work_off(store: SurveyStore, *, root: Path | None = None) -> None:
    """Works on all runs that wait or were left by a dead worker, until there are none.

    A run that fails is marked so and does not keep the others waiting.
    """
    while True:
        open_runs = [run for run in store.unfinished_runs() if not store.alive(run.id)]
        if not open_runs:
            return
        for run in open_runs:
            try:
                triage(store, run.id, root=root)
            except HeritageError:
                continue
            except Exception as error:
                LOG.exception("run broke off", extra={"run": run.id})
                words = f"something unforeseen happened ({error!r})"
                store.release(run.id, worker_name(), FAILED, words)
                raise
