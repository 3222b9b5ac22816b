"""Surveys kept in a database: photos, runs of checkpoints over them, and the expert's verdicts."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from sqlalchemy import (
    URL,
    CursorResult,
    Engine,
    Select,
    String,
    Update,
    and_,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from heritage.bands import BandThresholds
from heritage.cards import ModelCard, card_from_values
from heritage.errors import NoSurveyError, PhotoError, StoreError
from heritage.methods import DETAIL_SCAN
from heritage.overlays import Region, coarsened
from heritage.priority import VERDICTS, PriorityRow, with_relatives
from heritage.processes import lives_here
from heritage.sources import Source, lies_in_zip, read_source, same_entry, storable
from heritage.store.database import connect, surveys_dir
from heritage.store.files import PARTIAL, PhotoFiles
from heritage.store.tables import InspectionRow, PhotoRow, RunRow, SurveyRow, VerdictRow

WAITING, RUNNING, STOPPING = "waiting", "running", "stopping"
STOPPED, FAILED, DONE = "stopped", "failed", "done"
UNFINISHED = (WAITING, RUNNING, STOPPING)
SILENT_S = 60  # a worker elsewhere that has not been heard of for so long is taken for dead
IDLE_S = 86_400.0  # a file so old is not being written
LONGEST_NAME = 200
LONGEST_NOTE = 5000
LONGEST_HEAT = 768
MOST_CELLS = 64 * 64  # of heat that is kept as fine as it is


@dataclass(frozen=True)
class Survey:
    """A photo set triaged together.

    Attributes:
        site: Where it is, in the user's words.
        visited_on: When the photos were taken, as the user says.
        created_at: When it was entered, UTC.
        thresholds: Damage % at which its bands begin.
        photos: How many photos it has.
        edits: Counts changes to what its table shows beside runs and verdicts.
    """

    id: int
    name: str
    site: str
    visited_on: date | None
    created_at: datetime
    thresholds: BandThresholds
    photos: int
    edits: int


@dataclass(frozen=True)
class Run:
    """One checkpoint let loose on a survey.

    Attributes:
        checkpoint: Name of the checkpoint.
        card: Its card as it was then.
        detail: Whether each photo is also scanned in detail.
        status: `waiting`, `running`, `stopping`, `stopped`, `failed` or `done`.
        error: Why it failed, in words.
        created_at: When it was asked for, UTC.
        seconds: Time worked on it, pauses left out.
        done: Photos it is through with, unreadable ones too.
        failed: Unreadable ones among them.
        photos: Photos of the survey.
    """

    id: int
    survey_id: int
    checkpoint: str
    card: ModelCard
    detail: bool
    status: str
    error: str
    created_at: datetime
    seconds: float
    done: int
    failed: int
    photos: int

    @property
    def unfinished(self) -> bool:
        """Whether somebody works on it, or will."""
        return self.status in UNFINISHED

    @property
    def reader(self) -> str:
        """Name for people of whose answers these are."""
        return f"{self.card.title}, detail scan" if self.detail else self.card.title

    @property
    def absolute(self) -> bool:
        """Whether its heat means the same in every photo: scans by a head that points."""
        return self.detail and bool(self.card.pointing)


@dataclass(frozen=True)
class KeptPhoto:
    """What is known of one photo of a survey before it is inspected.

    Attributes:
        trusted: Whether it may lie anywhere, as who named it has the run of this computer.
    """

    id: int
    survey_id: int
    name: str
    source: Source
    sha256: str
    suffix: str
    trusted: bool = False


@dataclass(frozen=True)
class PhotoFacts:
    """What the bytes of a photo tell.

    Attributes:
        suffix: Of the kept file; empty where none is kept.
        perceptual_hash: 16 hexadecimal digits.
    """

    sha256: str
    suffix: str
    width: int | None = None
    height: int | None = None
    taken_at: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    perceptual_hash: str = ""


@dataclass(frozen=True)
class Finding:
    """What a run says of a photo, or why it says nothing.

    Attributes:
        heat: Raw heat (h, w) at the heat-map layer's resolution.
        absolute: Whether the heat is in [0, 1] and means the same in every photo.
        method: How the heat was made; that of the whole photo where a scan could not be.
    """

    damage_percent: float | None = None
    affected_percent: float | None = None
    unsure: bool = False
    evidence: bool = False
    regions: tuple[Region, ...] = ()
    warnings: tuple[str, ...] = ()
    heat: np.ndarray | None = None
    absolute: bool = False
    method: str = ""
    error: str = ""


@dataclass(frozen=True)
class Verdict:
    """What somebody said of a photo; `given_at` is UTC."""

    verdict: str
    note: str
    given_by: str
    given_at: datetime


@dataclass(frozen=True)
class Visit:
    """A building as one survey found it.

    Attributes:
        run: Whose answers these are.
        when: The date of the visit, or else that of the entry.
        rows: Its photos.
    """

    survey: Survey
    run: Run
    when: date
    rows: tuple[PriorityRow, ...]


class SurveyStore:
    """All surveys of one database and the photos kept for them; safe to share between threads.

    Args:
        folder: Where photos, and by default the database, are kept.
        url: SQLAlchemy URL of another database, or its parts.

    Raises:
        StoreError: The database cannot be opened.
    """

    def __init__(self, folder: Path | None = None, url: str | URL = "") -> None:
        self.folder = folder or surveys_dir()
        self.engine: Engine = connect(url, self.folder)
        self.files = PhotoFiles(self.folder)

    def close(self) -> None:
        """Closes the connections; the next use opens new ones."""
        self.engine.dispose()

    # --- surveys ---------------------------------------------------------------------------

    def create_survey(
        self,
        name: str,
        *,
        site: str = "",
        visited_on: date | None = None,
        thresholds: BandThresholds = BandThresholds(),
    ) -> Survey:
        """Enters an empty survey.

        Raises:
            StoreError: The name is empty, too long, or taken.
        """
        row = SurveyRow(
            name=_checked_name(name),
            site=site.strip()[:LONGEST_NAME],
            visited_on=visited_on,
            created_at=_now(),
            **asdict(thresholds),
        )
        with Session(self.engine) as session:
            session.add(row)
            try:
                session.commit()
            except IntegrityError as error:
                raise _name_taken(name) from error
            return self._survey(row, 0)

    def surveys(self) -> list[Survey]:
        """All surveys, the latest first."""
        count = (
            select(PhotoRow.survey_id, func.count().label("n"))
            .group_by(PhotoRow.survey_id)
            .subquery()
        )
        query = (
            select(SurveyRow, func.coalesce(count.c.n, 0))
            .outerjoin(count, count.c.survey_id == SurveyRow.id)
            .order_by(SurveyRow.created_at.desc(), SurveyRow.id.desc())
        )
        with Session(self.engine) as session:
            return [self._survey(row, n) for row, n in session.execute(query)]

    def survey(self, survey_id: int) -> Survey:
        """One survey.

        Raises:
            StoreError: There is none of this number.
        """
        with Session(self.engine) as session:
            row = session.get(SurveyRow, survey_id)
            if row is None:
                raise _no_survey(survey_id)
            photos = select(func.count()).where(PhotoRow.survey_id == survey_id)
            return self._survey(row, session.scalar(photos) or 0)

    def find_survey(self, name: str) -> Survey | None:
        """The survey called `name`, if there is one."""
        with Session(self.engine) as session:
            plain = " ".join(name.split())
            found = session.scalar(select(SurveyRow.id).where(SurveyRow.name == plain))
        return self.survey(found) if found is not None else None

    def edit_survey(
        self,
        survey_id: int,
        *,
        name: str | None = None,
        site: str | None = None,
        visited_on: date | None = None,
        thresholds: BandThresholds | None = None,
    ) -> None:
        """Changes what is given; the date too, even to none, if the name is.

        Raises:
            StoreError: The name is taken, or the survey is gone.
        """
        values: dict[str, Any] = {"edits": SurveyRow.edits + 1}
        if name is not None:
            values |= {"name": _checked_name(name), "visited_on": visited_on}
        if visited_on is not None:
            values["visited_on"] = visited_on
        if site is not None:
            values["site"] = site.strip()[:LONGEST_NAME]
        if thresholds is not None:
            values |= asdict(thresholds)
        with Session(self.engine) as session:
            try:
                done = session.execute(
                    update(SurveyRow).where(SurveyRow.id == survey_id).values(values)
                )
                session.commit()
            except IntegrityError as error:
                raise _name_taken(name or "") from error
        if not cast(CursorResult[Any], done).rowcount:
            raise _no_survey(survey_id)

    def rename_building(self, survey_id: int, photo_ids: Sequence[int], building: str) -> None:
        """Says which building photos of a survey show."""
        with Session(self.engine) as session:
            self._edited(session, survey_id)
            for some in _in_parts(photo_ids):
                session.execute(
                    update(PhotoRow)
                    .where(PhotoRow.survey_id == survey_id, PhotoRow.id.in_(some))
                    .values(building=building.strip()[:LONGEST_NAME])
                )
            session.commit()

    def delete_survey(self, survey_id: int) -> None:
        """Removes a survey with its runs and verdicts, and the photos no other survey has.

        Raises:
            StoreError: A run of it is in progress, or it is gone.
        """
        self.survey(survey_id)
        self._check_idle(survey_id, "delete it")
        with Session(self.engine) as session:
            self._edited(session, survey_id)  # whoever adds photos waits, or has added them
            mine = select(PhotoRow.sha256).where(PhotoRow.survey_id == survey_id).distinct()
            hashes = set(session.scalars(mine))
            session.execute(delete(SurveyRow).where(SurveyRow.id == survey_id))
            session.commit()
        self.forget_unused(hashes)
        self.files.drop_incoming(survey_id)

    def remove_photos(self, survey_id: int, photo_ids: Sequence[int]) -> None:
        """Takes photos out of a survey, with all that was found in them and said of them.

        Raises:
            StoreError: A run of the survey is in progress, or it is gone.
        """
        self._check_idle(survey_id, "remove the photo")
        hashes: set[str] = set()
        archives: set[str] = set()
        with Session(self.engine) as session:
            self._edited(session, survey_id)
            for some in _in_parts(photo_ids):
                mine = (PhotoRow.survey_id == survey_id, PhotoRow.id.in_(some))
                for row in session.scalars(select(PhotoRow).where(*mine)).all():
                    hashes.add(row.sha256)
                    archives.add(row.source_path)
                    self._leave_verdicts(session, row, photo_ids)
                session.execute(delete(PhotoRow).where(*mine))
            waits = select(PhotoRow.source_path).where(
                PhotoRow.survey_id == survey_id, PhotoRow.suffix == "", PhotoRow.source_error == ""
            )
            through = archives - set(session.scalars(waits.distinct()))
            session.commit()
        self.forget_unused(hashes)
        for path in through:
            if self.files.is_incoming(path):
                Path(path).unlink(missing_ok=True)

    def _leave_verdicts(self, session: Session, row: PhotoRow, going: Sequence[int]) -> None:
        """Leaves what was said of a photo that goes to a copy of it that stays."""
        copies = select(PhotoRow.id).where(
            PhotoRow.survey_id == row.survey_id, PhotoRow.sha256 == row.sha256
        )
        stays = set(session.scalars(copies)) - set(going) if row.sha256 else set()
        if stays:
            session.execute(
                update(VerdictRow).where(VerdictRow.photo_id == row.id).values(photo_id=min(stays))
            )

    def leftovers(self, idle_s: float = IDLE_S) -> list[Path]:
        """Files that no survey of this database has, as a process killed at the wrong moment leaves
        them; half-written ones too.

        Args:
            idle_s: Younger files are not counted: their row may be about to be written.
        """
        found = []
        for some in _in_parts(self.files.idle(idle_s)):
            with Session(self.engine) as session:
                known = select(PhotoRow.sha256).where(PhotoRow.sha256.in_([h for h, _ in some]))
                kept = set(session.scalars(known))
            found += [path for sha256, path in some if sha256 not in kept or path.suffix == PARTIAL]
        archives = self.files.idle_incoming(idle_s)
        for some in _in_parts(sorted({survey_id for survey_id, _ in archives})):
            query = select(PhotoRow.source_path).where(PhotoRow.survey_id.in_(some)).distinct()
            with Session(self.engine) as session:
                named = {Path(path).name for path in session.scalars(query)}
            found += [path for n, path in archives if n in some and path.name not in named]
        return found

    # --- photos ----------------------------------------------------------------------------

    def add_photos(
        self, survey_id: int, sources: Iterable[Source], *, trusted: bool = False
    ) -> int:
        """Enters photos that are to be read from where they lie; those entered before are not
        entered again, but what was kept of them is put back where it is gone. An archive put aside
        goes where all that it holds has been read before.

        Args:
            trusted: They may lie anywhere, not only where visitors may look.

        Returns:
            How many were new.

        Raises:
            StoreError: A ZIP holds other photos, or in another order, than when they were entered.
        """
        with self._that_is_there(survey_id) as session:
            known = select(PhotoRow.source_path, PhotoRow.source_member, PhotoRow.name).where(
                PhotoRow.survey_id == survey_id
            )
            before = {(path, member): name for path, member, name in session.execute(known)}
            position = self._next_position(session, survey_id)
            values: list[dict[str, Any]] = []
            archives: set[str] = set()
            again: list[Source] = []
            for source in map(storable, sources):
                if self.files.is_incoming(source.path):
                    archives.add(source.path)
                name = before.get((source.path, source.member))
                if name is not None:
                    if source.member is not None and not same_entry(name, source.photo):
                        raise _other_zip(source.path)
                    again.append(source)
                    continue
                values.append(
                    {
                        "survey_id": survey_id,
                        "position": position + len(values),
                        "name": source.photo,
                        "building": source.building[:LONGEST_NAME],
                        "source_path": source.path,
                        "source_member": source.member,
                        "source_error": source.error,
                        "source_trusted": trusted,
                    }
                )
            if values:
                session.execute(insert(PhotoRow), values)
            through = self._through_with(session, survey_id) & archives if archives else set()
            session.commit()
        self._put_back(survey_id, again, trusted=trusted)
        for path in through:
            Path(path).unlink(missing_ok=True)
        return len(values)

    def _put_back(self, survey_id: int, sources: Sequence[Source], *, trusted: bool) -> None:
        """Keeps the bytes of photos again whose kept copy is gone, if they are still the same."""
        names = ("source_path", "source_member", "sha256", "suffix")
        query = select(*(PhotoRow.__table__.c[name] for name in names)).where(
            PhotoRow.survey_id == survey_id, PhotoRow.suffix != ""
        )
        with self.engine.connect() as connection:
            kept = {(row.source_path, row.source_member): row for row in connection.execute(query)}
        for source in sources:
            row = kept.get((source.path, source.member))
            # Who may name only some places is not to have others read by the way.
            if row is None or not (trusted or self.files.is_incoming(source.path)):
                continue
            if not self.files.path(row.sha256, row.suffix).exists():
                with suppress(PhotoError):
                    data = read_source(source)
                    if hashlib.sha256(data).hexdigest() == row.sha256:
                        self.files.keep(data, row.sha256, row.suffix)

    def add_upload(
        self, survey_id: int, name: str, building: str, data: bytes, sha256: str, suffix: str
    ) -> None:
        """Keeps the bytes of one photo and enters it, unless it is there by the same name.

        Raises:
            OSError: The disk is full or cannot be written.
        """
        self.files.keep(data, sha256, suffix)
        with self._that_is_there(survey_id, [sha256]) as session:
            same = select(PhotoRow.id).where(
                PhotoRow.survey_id == survey_id, PhotoRow.name == name, PhotoRow.sha256 == sha256
            )
            if session.scalar(same.limit(1)) is not None:
                return
            session.add(
                PhotoRow(
                    survey_id=survey_id,
                    position=self._next_position(session, survey_id),
                    name=name,
                    building=building[:LONGEST_NAME],
                    sha256=sha256,
                    suffix=suffix,
                )
            )
            session.commit()
        # Whoever deleted the last other survey with it meanwhile may have removed the file; or has
        # deleted this one.
        self.files.keep(data, sha256, suffix)
        self.forget_unused([sha256])

    def photo(self, photo_id: int) -> KeptPhoto:
        """One photo.

        Raises:
            StoreError: It is gone.
        """
        with Session(self.engine) as session:
            row = session.get(PhotoRow, photo_id)
            if row is None:
                raise StoreError("photo", "it is no longer there", "reload the page")
            return _kept(row)

    def twins(self, photo_id: int) -> list[int]:
        """A photo and all of its survey with the same bytes: what holds for one holds for all.

        Raises:
            StoreError: It is gone.
        """
        kept = self.photo(photo_id)
        if not kept.sha256:
            return [photo_id]
        query = select(PhotoRow.id).where(
            PhotoRow.survey_id == kept.survey_id, PhotoRow.sha256 == kept.sha256
        )
        with Session(self.engine) as session:
            return list(session.scalars(query))

    def photo_bytes(self, kept: KeptPhoto, root: Path | None = None) -> bytes:
        """The bytes of a photo, from the store or from where it lies.

        Args:
            root: The only folder that photos may be read from where they lie.

        Raises:
            PhotoError: They are gone or cannot be read.
        """
        if kept.suffix:
            return self.files.read(kept.name, kept.sha256, kept.suffix)
        incoming = self.files.is_incoming(kept.source.path)
        try:
            return read_source(kept.source, root=None if kept.trusted or incoming else root)
        except PhotoError:
            # Another run of the survey may have brought it in, and removed the archive it was in.
            now = self.photo(kept.id) if incoming else kept
            if now == kept:
                raise
            return self.photo_bytes(now, root)

    def settle_incoming(self, run_id: int) -> None:
        """Removes the archives of a survey that a run is through with: each photo in them is kept,
        or is itself wrong there. What only could not be read now may be another time."""
        survey_id = self.run(run_id).survey_id
        with Session(self.engine) as session:
            self._edited(session, survey_id)  # whoever adds photos waits, or has added them
            query = (
                select(PhotoRow, InspectionRow.error)
                .outerjoin(
                    InspectionRow,
                    (InspectionRow.photo_id == PhotoRow.id) & (InspectionRow.run_id == run_id),
                )
                .where(PhotoRow.survey_id == survey_id, PhotoRow.suffix == "")
            )
            for photo, error in session.execute(query).all():
                if error and lies_in_zip(error) and self.files.is_incoming(photo.source_path):
                    photo.source_error = photo.source_error or error
            session.flush()
            through = self._through_with(session, survey_id)
            session.commit()
        for path in through:  # another may be arriving beside them
            Path(path).unlink(missing_ok=True)

    def buildings(self) -> list[str]:
        """Names of all buildings in all surveys."""
        query = select(PhotoRow.building).where(PhotoRow.building != "").distinct()
        with Session(self.engine) as session:
            return sorted(session.scalars(query), key=str.casefold)

    # --- runs ------------------------------------------------------------------------------

    def create_run(self, survey_id: int, card: ModelCard, *, detail: bool = False) -> Run:
        """Asks for a survey's photos to be inspected with a checkpoint; a worker takes it up.

        Args:
            detail: Scan each photo in detail as well.
        """
        with Session(self.engine) as session:
            row = _asked_for(survey_id, card, detail)
            session.add(row)
            session.commit()
            return self.run(row.id)

    def run_with(self, survey_id: int, card: ModelCard, *, detail: bool = False) -> Run:
        """The latest run of a survey with this very checkpoint, set going again, or a new one;
        the same one for all who ask at once.

        Args:
            detail: As for `create_run`; a run without is another one.

        Raises:
            StoreError: There is no such survey.
        """
        with Session(self.engine) as session:
            self._edited(session, survey_id)
            same = select(RunRow).where(
                RunRow.survey_id == survey_id,
                RunRow.checkpoint == card.name,
                RunRow.detail == detail,
            )
            for row in session.scalars(same.order_by(RunRow.id.desc())):
                if answers_alike(card_from_values(row.card), card, detail=detail):
                    session.execute(_going_again(row.id))
                    break
            else:
                row = _asked_for(survey_id, card, detail)
                session.add(row)
            session.commit()
            return self.run(row.id)

    def run(self, run_id: int) -> Run:
        """One run.

        Raises:
            StoreError: There is none of this number.
        """
        found = self._runs(RunRow.id == run_id)
        if not found:
            raise StoreError("run", "it is no longer there", "reload the page")
        return found[0]

    def runs(self, survey_id: int) -> list[Run]:
        """The runs of a survey, the latest first."""
        return self._runs(RunRow.survey_id == survey_id)

    def unfinished_runs(self) -> list[Run]:
        """Runs that somebody works on or is to, the oldest first."""
        return self._runs(RunRow.status.in_(UNFINISHED))[::-1]

    def pending(self, run_id: int) -> list[KeptPhoto]:
        """Photos a run is not through with yet, in the order they were entered."""
        with Session(self.engine) as session:
            query = self._unread(run_id, PhotoRow).order_by(PhotoRow.position)
            return [_kept(row) for row in session.scalars(query)]

    def inspected(self, run_id: int) -> dict[str, int]:
        """Hash to photo of everything a run has an answer to."""
        query = (
            select(PhotoRow.sha256, func.min(PhotoRow.id))
            .join(InspectionRow, InspectionRow.photo_id == PhotoRow.id)
            .where(InspectionRow.run_id == run_id, InspectionRow.error == "")
            .group_by(PhotoRow.sha256)
        )
        with Session(self.engine) as session:
            return dict(session.execute(query).all())

    def record(
        self,
        run_id: int,
        photo_id: int,
        facts: PhotoFacts | None,
        finding: Finding | int,
        *,
        worker: str = "",
    ) -> bool:
        """Writes down what a run found; once it returns, that is not lost.

        Args:
            facts: What the bytes tell; None where they could not be had.
            finding: What was found, or the photo with the same bytes whose finding holds here.
            worker: Whose run it must still be; by default it does not matter.

        Returns:
            Whether it was written down: nothing is where the run is another's by now.
        """
        with Session(self.engine) as session:
            if worker and not self._heard(session, run_id, worker):
                return False
            if session.get(PhotoRow, photo_id) is None:
                return True  # taken out of the survey meanwhile
            if facts:
                session.execute(
                    update(PhotoRow).where(PhotoRow.id == photo_id).values(asdict(facts))
                )
            session.execute(
                delete(InspectionRow).where(
                    InspectionRow.run_id == run_id, InspectionRow.photo_id == photo_id
                )
            )
            session.add(self._inspection(session, run_id, photo_id, finding))
            session.commit()
            return True

    def claim(self, run_id: int, worker: str) -> bool:
        """Takes up a run that waits, or whose worker is dead; False where another was quicker."""
        row = self._run_row(run_id)
        if row is None or row.status not in UNFINISHED or self._is_alive(row):
            return False
        stays = STOPPING if row.status == STOPPING else RUNNING
        with Session(self.engine) as session:
            done = session.execute(
                update(RunRow)
                .where(
                    RunRow.id == run_id, RunRow.worker == row.worker, RunRow.status == row.status
                )
                .values(worker=worker, heartbeat_at=self._clock(), status=stays)
            )
            session.commit()
            return cast(CursorResult[Any], done).rowcount == 1

    def heartbeat(self, run_id: int, worker: str, seconds: float) -> bool:
        """Tells that a worker is alive and has worked `seconds` more.

        Returns:
            Whether it is to go on: nobody asked it to stop, and the run is still its own.
        """
        with Session(self.engine) as session:
            mine = self._heard(session, run_id, worker, seconds)
            status = session.scalar(select(RunRow.status).where(RunRow.id == run_id))
            session.commit()
            return mine and status == RUNNING

    def release(self, run_id: int, worker: str, status: str, error: str = "") -> bool:
        """Lets a run of one's own go: done, stopped or failed; another's is left alone.

        Returns:
            Whether it was let go. One with photos left that nobody has read is not done: they
            were added in the last moment, and it stays with its worker.
        """
        mine = (RunRow.id == run_id, RunRow.worker == worker)
        with Session(self.engine) as session:
            if status == DONE:
                survey_id = session.scalar(select(RunRow.survey_id).where(*mine))
                if survey_id is not None:
                    self._edited(session, survey_id)  # whoever adds photos waits, or has added them
                    if session.scalar(self._unread(run_id, PhotoRow.id).limit(1)) is not None:
                        return False
            session.execute(
                update(RunRow)
                .where(*mine)
                .values(status=status, error=error, worker="", heartbeat_at=None)
            )
            session.commit()
            return True

    def ask_to_stop(self, run_id: int) -> None:
        """Asks whoever works on a run to stop after the photo in hand."""
        row = self._run_row(run_id)
        if row is None:
            return
        stopped = STOPPING if self._is_alive(row) else STOPPED
        with Session(self.engine) as session:
            session.execute(
                update(RunRow)
                .where(RunRow.id == run_id, RunRow.status.in_(UNFINISHED))
                .values(status=stopped)
            )
            session.commit()

    def resume(self, run_id: int) -> None:
        """Asks for a stopped or failed run to go on, or for a done one to read what is new."""
        with Session(self.engine) as session:
            session.execute(_going_again(run_id))
            session.commit()

    def failures(self, run_id: int) -> list[tuple[KeptPhoto, str]]:
        """Photos a run could not read, and why, in the order they were entered."""
        query = (
            select(PhotoRow, InspectionRow.error)
            .join(InspectionRow, InspectionRow.photo_id == PhotoRow.id)
            .where(InspectionRow.run_id == run_id, InspectionRow.error != "")
            .order_by(PhotoRow.position)
        )
        with Session(self.engine) as session:
            return [(_kept(row), error) for row, error in session.execute(query)]

    def retry_failed(self, run_id: int, photo_ids: Sequence[int] | None = None) -> None:
        """Forgets which photos a run could not read, and asks for it to go on.

        Args:
            photo_ids: Only these, and they are read anew from where they lie: what was kept of
                them is forgotten too, unless another run has an answer to it.
        """
        failed = (InspectionRow.run_id == run_id, InspectionRow.error != "")
        forgotten: set[str] = set()
        with Session(self.engine) as session:
            # As many rows will be there again, and whoever kept them must see that they changed.
            self._edited(session, self.run(run_id).survey_id)
            if photo_ids is None:
                session.execute(delete(InspectionRow).where(*failed))
            for some in _in_parts(photo_ids or ()):
                session.execute(
                    delete(InspectionRow).where(*failed, InspectionRow.photo_id.in_(some))
                )
                answered = select(InspectionRow.photo_id).where(InspectionRow.error == "")
                mine = (PhotoRow.id.in_(some), PhotoRow.id.not_in(answered))
                forgotten |= set(session.scalars(select(PhotoRow.sha256).where(*mine)))
                session.execute(update(PhotoRow).where(*mine).values(sha256="", suffix=""))
            session.commit()
        self.forget_unused(forgotten)
        self.resume(run_id)

    def forget_unused(self, hashes: Iterable[str]) -> None:
        """Removes the kept photos that no survey has, or has any more."""
        for some in _in_parts(sorted(sha256 for sha256 in hashes if sha256)):
            with Session(self.engine) as session:
                still = set(
                    session.scalars(select(PhotoRow.sha256).where(PhotoRow.sha256.in_(some)))
                )
            for sha256 in set(some) - still:
                self.files.forget(sha256, unless=partial(self._has, sha256))

    def delete_run(self, run_id: int) -> None:
        """Removes a run and what it found.

        Raises:
            StoreError: It is in progress.
        """
        if self.alive(run_id):
            raise StoreError("run", "it is in progress", "stop it first")
        with Session(self.engine) as session:
            session.execute(delete(RunRow).where(RunRow.id == run_id))
            session.commit()

    def alive(self, run_id: int) -> bool:
        """Whether a worker is at a run right now."""
        row = self._run_row(run_id)
        return row is not None and self._is_alive(row)

    # --- what was found --------------------------------------------------------------------

    def state(self, survey_id: int, run_id: int) -> tuple[int, ...]:
        """Changes whenever the rows of a run would; cheap enough to ask on every click."""
        done = select(func.count()).where(InspectionRow.run_id == run_id)
        # Their number too, as on PostgreSQL one with a lower id may be written down later.
        latest, given = (
            select(told)
            .join(PhotoRow, PhotoRow.id == VerdictRow.photo_id)
            .where(PhotoRow.survey_id == survey_id)
            for told in (func.max(VerdictRow.id), func.count(VerdictRow.id))
        )
        edits = select(SurveyRow.edits).where(SurveyRow.id == survey_id)
        with Session(self.engine) as session:
            return tuple(session.scalar(query) or 0 for query in (done, latest, given, edits))

    def rows(self, run_id: int, building: str | None = None) -> list[PriorityRow]:
        """A survey's photos as a run sees them, in the order they were entered; without ranks.

        A verdict on one of several copies holds for all, those too that were read after it.

        Args:
            building: Only photos of this building, each a copy only of others among them.

        Raises:
            StoreError: There is no such run.
        """
        run = self.run(run_id)
        judged = aliased(PhotoRow)
        latest = (
            select(_copies(judged).label("copies"), func.max(VerdictRow.id).label("id"))
            .join(judged, judged.id == VerdictRow.photo_id)
            .where(judged.survey_id == run.survey_id)
            .group_by("copies")
            .subquery()
        )
        found, photo, said = InspectionRow.__table__.c, PhotoRow.__table__.c, VerdictRow.__table__.c
        query = (
            select(
                *(photo[name] for name in _PHOTO_COLUMNS),
                *(found[name] for name in _FOUND_COLUMNS),
                *(said[name] for name in _VERDICT_COLUMNS),
            )
            .select_from(PhotoRow)
            .outerjoin(
                InspectionRow,
                (InspectionRow.photo_id == PhotoRow.id) & (InspectionRow.run_id == run_id),
            )
            .outerjoin(latest, latest.c.copies == _copies(PhotoRow))
            .outerjoin(VerdictRow, VerdictRow.id == latest.c.id)
            .where(PhotoRow.survey_id == run.survey_id)
            .order_by(PhotoRow.position)
        )
        if building is not None:
            query = query.where(PhotoRow.building == building)
        with self.engine.connect() as connection:
            rows = [_priority_row(values, run) for values in connection.execute(query)]
            hashes = self._hashes(connection, run.survey_id, building)
        return with_relatives(rows, hashes)

    def heat(self, run_id: int, photo_id: int) -> tuple[np.ndarray, bool] | None:
        """Heat (h, w) of one photo, and whether it is absolute; None where there is none."""
        with Session(self.engine) as session:
            row = session.get(InspectionRow, (run_id, photo_id))
            return unpack_heat(row.heat) if row and row.heat else None

    # --- verdicts --------------------------------------------------------------------------

    def give_verdict(
        self, photo_ids: Sequence[int], verdict: str, note: str = "", given_by: str = ""
    ) -> None:
        """Writes down what somebody says of photos; an empty verdict takes the last one back.

        Raises:
            StoreError: One of them was taken out of its survey.
            ValueError: `verdict` is none of `VERDICTS`.
        """
        if verdict and verdict not in VERDICTS:
            raise ValueError(f"a verdict is one of {', '.join(VERDICTS)}")
        now = _now()
        with Session(self.engine) as session:
            for photo_id in photo_ids:
                session.add(
                    VerdictRow(
                        photo_id=photo_id,
                        verdict=verdict,
                        note=note.strip()[:LONGEST_NOTE],
                        given_by=given_by.strip()[:LONGEST_NAME],
                        given_at=now,
                    )
                )
            try:
                session.commit()
            except IntegrityError as error:
                raise StoreError(
                    "the photo", "it is not in a survey any more", "reload the page"
                ) from error

    def has_verdicts(self, among: Sequence[str] = VERDICTS) -> bool:
        """Whether anybody ever gave one of these verdicts."""
        query = select(VerdictRow.id).where(VerdictRow.verdict.in_(among)).limit(1)
        with Session(self.engine) as session:
            return session.scalar(query) is not None

    def verdicts(self, photo_id: int) -> list[Verdict]:
        """All that was ever said of a photo or of its copies in the survey, the latest first."""
        query = select(VerdictRow).where(VerdictRow.photo_id.in_(self.twins(photo_id)))
        with Session(self.engine) as session:
            said = [
                # Of copies that were judged together, the microseconds were once their own.
                Verdict(row.verdict, row.note, row.given_by, row.given_at.replace(microsecond=0))
                for row in session.scalars(query.order_by(VerdictRow.id.desc()))
            ]
        return list(dict.fromkeys(said))  # said of several copies at once

    # --- a building over time --------------------------------------------------------------

    def visits(self, building: str, reader: Run | None = None) -> list[Visit]:
        """A building in every survey that shows it, the earliest visit first.

        Args:
            reader: Only runs that answer as this one does are taken, so that visits compare;
                surveys without one are left out. By default each survey's last run with any
                results.
        """
        query = select(PhotoRow.survey_id).where(PhotoRow.building == building).distinct()
        with Session(self.engine) as session:
            survey_ids = list(session.scalars(query))
        visits = []
        for survey_id in survey_ids:
            survey = self.survey(survey_id)
            run = next(
                (
                    run
                    for run in self.runs(survey_id)
                    if run.done > run.failed and (reader is None or same_reader(run, reader))
                ),
                None,
            )
            if run:
                rows = self.rows(run.id, building)
                visits.append(
                    Visit(survey, run, survey.visited_on or survey.created_at.date(), tuple(rows))
                )
        return sorted(visits, key=lambda visit: (visit.when, visit.survey.id))

    def readers(self, building: str) -> list[Run]:
        """The last run of each who has read a building, the one with the most visits first: a
        checkpoint, with its detail scan or without, as it was trained and calibrated then."""
        has_read = (
            select(InspectionRow.run_id)
            .join(PhotoRow, PhotoRow.id == InspectionRow.photo_id)
            .where(PhotoRow.building == building, InspectionRow.error == "")
        )
        kinds: list[tuple[Run, set[int]]] = []
        for run in self._runs(RunRow.id.in_(has_read)):
            surveys = next((found for last, found in kinds if same_reader(run, last)), None)
            if surveys is None:
                kinds.append((run, surveys := set()))
            surveys.add(run.survey_id)
        kinds.sort(key=lambda kind: (-len(kind[1]), kind[0].checkpoint, kind[0].detail))
        return [run for run, _ in kinds]

    # --- inside ----------------------------------------------------------------------------

    def _survey(self, row: SurveyRow, photos: int) -> Survey:
        return Survey(
            id=row.id,
            name=row.name,
            site=row.site,
            visited_on=row.visited_on,
            created_at=row.created_at,
            thresholds=BandThresholds(row.urgent_percent, row.high_percent, row.watch_percent),
            photos=photos,
            edits=row.edits,
        )

    def _run_row(self, run_id: int) -> RunRow | None:
        with Session(self.engine) as session:
            return session.get(RunRow, run_id)

    def _clock(self) -> Any:
        """Now, by the clock that all who share the database have in common."""
        if self.engine.dialect.name == "postgresql":
            return func.timezone("UTC", func.clock_timestamp())
        return _now()

    def _is_alive(self, row: RunRow) -> bool:
        """Whether the worker of a run lives: asked of the system here, by its word elsewhere."""
        if not row.worker or row.heartbeat_at is None:
            return False
        here = lives_here(row.worker)
        if here is not None:
            return here
        now = self._clock()
        if not isinstance(now, datetime):
            with Session(self.engine) as session:
                now = cast(datetime, session.scalar(select(now)))
        # A word from the future is of a clock that has been set back since.
        return abs(now - row.heartbeat_at) <= timedelta(seconds=SILENT_S)

    def _unread(self, run_id: int, what: Any) -> Select[Any]:
        """`what` of the photos that a run is not through with."""
        done = select(InspectionRow.photo_id).where(InspectionRow.run_id == run_id)
        survey_id = select(RunRow.survey_id).where(RunRow.id == run_id).scalar_subquery()
        return select(what).where(PhotoRow.survey_id == survey_id, PhotoRow.id.not_in(done))

    def _runs(self, condition: Any) -> list[Run]:
        done = (
            select(func.count())
            .where(InspectionRow.run_id == RunRow.id)
            .correlate(RunRow)
            .scalar_subquery()
        )
        failed = (
            select(func.count())
            .where(InspectionRow.run_id == RunRow.id, InspectionRow.error != "")
            .correlate(RunRow)
            .scalar_subquery()
        )
        photos = (
            select(func.count())
            .where(PhotoRow.survey_id == RunRow.survey_id)
            .correlate(RunRow)
            .scalar_subquery()
        )
        query = select(RunRow, done, failed, photos).where(condition).order_by(RunRow.id.desc())
        with Session(self.engine) as session:
            return [
                Run(
                    id=row.id,
                    survey_id=row.survey_id,
                    checkpoint=row.checkpoint,
                    card=card_from_values(row.card),
                    detail=row.detail,
                    status=row.status,
                    error=row.error,
                    created_at=row.created_at,
                    seconds=row.seconds,
                    done=n_done,
                    failed=n_failed,
                    photos=n_photos,
                )
                for row, n_done, n_failed, n_photos in session.execute(query)
            ]

    def _inspection(
        self, session: Session, run_id: int, photo_id: int, finding: Finding | int
    ) -> InspectionRow:
        if isinstance(finding, int):
            same = session.get(InspectionRow, (run_id, finding))
            if same is None:
                raise StoreError("photo", "its twin is no longer there", "start the run anew")
            values = {name: getattr(same, name) for name in _FOUND_COLUMNS} | {"heat": same.heat}
        else:
            values = {
                **{name: getattr(finding, name) for name in _FOUND_COLUMNS},
                "regions": [asdict(region) for region in finding.regions],
                "warnings": list(finding.warnings),
                "heat": (
                    None if finding.heat is None else pack_heat(finding.heat, finding.absolute)
                ),
            }
        return InspectionRow(run_id=run_id, photo_id=photo_id, **values)

    def _heard(self, session: Session, run_id: int, worker: str, seconds: float = 0.0) -> bool:
        """Notes that a worker lives; False where the run is not its own. Until the transaction
        ends, nobody else can take the run up."""
        done = session.execute(
            update(RunRow)
            .where(RunRow.id == run_id, RunRow.worker == worker)
            .values(heartbeat_at=self._clock(), seconds=RunRow.seconds + seconds)
        )
        return cast(CursorResult[Any], done).rowcount == 1

    def _next_position(self, session: Session, survey_id: int) -> int:
        last = select(func.max(PhotoRow.position)).where(PhotoRow.survey_id == survey_id)
        found = session.scalar(last)
        return 0 if found is None else found + 1

    def _edited(self, session: Session, survey_id: int) -> None:
        """Counts a change. As the first statement it makes others who change the survey wait."""
        done = session.execute(
            update(SurveyRow).where(SurveyRow.id == survey_id).values(edits=SurveyRow.edits + 1)
        )
        if not cast(CursorResult[Any], done).rowcount:
            raise _no_survey(survey_id)

    @contextmanager
    def _that_is_there(self, survey_id: int, kept: Sequence[str] = ()) -> Iterator[Session]:
        """A session that edits a survey; where it was deleted meanwhile, what was put aside for
        it and is `kept` for it goes as well."""
        with Session(self.engine) as session:
            try:
                self._edited(session, survey_id)
            except NoSurveyError:
                session.rollback()
                self.files.drop_incoming(survey_id)
                self.forget_unused(kept)
                raise
            yield session

    def _check_idle(self, survey_id: int, wanted: str) -> None:
        """Raises StoreError where a run of the survey is in progress."""
        if any(
            run.status in (RUNNING, STOPPING) and self.alive(run.id) for run in self.runs(survey_id)
        ):
            raise StoreError("survey", "it is being triaged", f"stop the run, then {wanted}")

    def _has(self, sha256: str) -> bool:
        """Whether any survey has a photo of this hash."""
        with Session(self.engine) as session:
            same = select(PhotoRow.id).where(PhotoRow.sha256 == sha256)
            return session.scalar(same.limit(1)) is not None

    def _through_with(self, session: Session, survey_id: int) -> set[str]:
        """Archives put aside that no photo of the survey is to be read from any more."""
        waits = and_(PhotoRow.suffix == "", PhotoRow.source_error == "")
        query = select(PhotoRow.source_path, waits).where(PhotoRow.survey_id == survey_id)
        found = session.execute(query.distinct()).all()
        archives = {path for path, _ in found if self.files.is_incoming(path)}
        return archives - {path for path, still in found if still}

    def _hashes(
        self, connection: Any, survey_id: int, building: str | None
    ) -> list[tuple[int, str, str, str]]:
        """Number, name, hash and perceptual hash of all photos read, in the order entered."""
        query = (
            select(PhotoRow.id, PhotoRow.name, PhotoRow.sha256, PhotoRow.perceptual_hash)
            .where(PhotoRow.survey_id == survey_id, PhotoRow.sha256 != "")
            .order_by(PhotoRow.position)
        )
        if building is not None:
            query = query.where(PhotoRow.building == building)
        return [tuple(values) for values in connection.execute(query)]


_PHOTO_COLUMNS = (
    *("id", "name", "building", "sha256", "width", "height", "taken_at", "camera"),
    *("latitude", "longitude", "source_error"),
)
_FOUND_COLUMNS = (
    *("damage_percent", "affected_percent", "unsure", "evidence", "regions", "warnings"),
    *("method", "error"),
)
_VERDICT_COLUMNS = ("verdict", "note", "given_by", "given_at")


def _copies(photo: Any) -> Any:
    """What photos with the same bytes have in common; of its own where they are not known yet."""
    return case((photo.sha256 != "", photo.sha256), else_=sql_cast(photo.id, String))


def _priority_row(values: Any, run: Run) -> PriorityRow:
    at = values.given_at
    return PriorityRow(
        photo=values.name,
        building=values.building,
        damage_percent=values.damage_percent,
        affected_percent=values.affected_percent,
        verdict=values.verdict or "",
        note=values.note or "",
        backbone=run.checkpoint if values.damage_percent is not None else "",
        width=values.width,
        height=values.height,
        taken_at=values.taken_at,
        latitude=values.latitude,
        longitude=values.longitude,
        sha256=values.sha256,
        warnings=tuple(values.warnings or ()),
        error=values.error or "",
        unsure=bool(values.unsure),
        verdict_by=values.given_by or "",
        verdict_at=at.isoformat(timespec="seconds") if at and values.verdict else None,
        camera=values.camera,
        evidence=bool(values.evidence),
        regions=tuple(Region(**region) for region in values.regions or ()),
        heat_map=values.method or "",
        absolute=run.absolute and values.method == DETAIL_SCAN,
        lasting=bool(values.source_error),
        photo_id=values.id,
    )


def pack_heat(heat: np.ndarray, absolute: bool = False) -> bytes:
    """Heat (h, w) as bytes, in NumPy's own formats.

    Relative heat is scaled to [0, 1], and kept in half precision up to `MOST_CELLS` cells. More
    than that, as scans have, and absolute heat are kept in 256 steps, compressed, with at most
    `LONGEST_HEAT` cells a side, each as hot as its hottest place.
    """
    buffer = io.BytesIO()
    if not absolute:
        low, high = float(heat.min()), float(heat.max())
        heat = (heat - low) / (high - low) if high > low else np.zeros_like(heat)
    if absolute or heat.size > MOST_CELLS:
        steps = np.round(coarsened(heat, LONGEST_HEAT) * 255).astype(np.uint8)
        np.savez_compressed(buffer, heat=steps, absolute=np.array(absolute))
    else:
        np.save(buffer, heat.astype(np.float16), allow_pickle=False)
    return buffer.getvalue()


def unpack_heat(data: bytes) -> tuple[np.ndarray, bool]:
    """The reverse of `pack_heat`: (h, w) float32 in [0, 1], and whether it is absolute."""
    found = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found.astype(np.float32), False
    # Up to 0.4.0 no other than absolute heat was kept in steps, and none said which it was.
    return found["heat"].astype(np.float32) / 255, bool(found.get("absolute", True))


def _asked_for(survey_id: int, card: ModelCard, detail: bool) -> RunRow:
    return RunRow(
        survey_id=survey_id,
        checkpoint=card.name,
        card=asdict(card),
        detail=detail,
        status=WAITING,
        created_at=_now(),
    )


def _going_again(run_id: int) -> Update:
    return (
        update(RunRow)
        .where(RunRow.id == run_id, RunRow.status.not_in(UNFINISHED))
        .values(status=WAITING, error="", worker="")
    )


def answers_alike(one: ModelCard, other: ModelCard, *, detail: bool = False) -> bool:
    """Whether two cards are of the same weights with the same calibration.

    Args:
        detail: Whether their heads that point count as well.
    """
    pointers = [[card.pointing.get(key) for key in ("sha256", "hot")] for card in (one, other)]
    return (
        all(getattr(one, name) == getattr(other, name) for name in ("sha256", "temperature"))
        and tuple(one.unsure) == tuple(other.unsure)
        and (not detail or pointers[0] == pointers[1])
    )


def same_reader(one: Run, other: Run) -> bool:
    """Whether two runs answer alike, so that what they say of different photos compares."""
    return (one.checkpoint, one.detail) == (other.checkpoint, other.detail) and answers_alike(
        one.card, other.card, detail=one.detail
    )


def _kept(row: PhotoRow) -> KeptPhoto:
    source = Source(
        row.name, row.building, row.source_path, row.source_member, error=row.source_error
    )
    return KeptPhoto(
        row.id, row.survey_id, row.name, source, row.sha256, row.suffix, row.source_trusted
    )


def _in_parts(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Parts of `values` small enough for one statement."""
    return (values[start : start + 500] for start in range(0, len(values), 500))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _checked_name(name: str) -> str:
    clean = " ".join(name.split())
    if not clean or len(clean) > LONGEST_NAME or not clean.isprintable():
        raise StoreError(name or "survey", "this is no name for a survey", "enter a short name")
    return clean


def _name_taken(name: str) -> StoreError:
    return StoreError(name, "there is a survey of this name", "choose another name")


def _other_zip(path: str) -> StoreError:
    return StoreError(
        Path(path).name,
        "it is no longer the ZIP whose photos this survey has",
        "give it another name, or begin another survey",
    )


def _no_survey(survey_id: int) -> NoSurveyError:
    return NoSurveyError(f"survey {survey_id}", "it is not there", "choose one on the page Surveys")
