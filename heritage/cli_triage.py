"""`python -m heritage triage`: a photo set in, the priority table out."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heritage.bands import BandThresholds
from heritage.cards import default_name, read_card, weights_dir, write_atomically
from heritage.errors import HeritageError, StoreError, one_line

if TYPE_CHECKING:
    from heritage.surveys import Survey, SurveyStore

OK, SOME_FAILED, WRONG_USE = 0, 1, 2
CLUSTER_REQUIREMENTS = "requirements-cluster.txt"


def add_triage(commands: Any) -> None:
    """Adds the command to the parser's."""
    triage = commands.add_parser(
        "triage",
        help="a photo set as a priority table",
        description="SOURCE is a folder, a ZIP or a photo. Photos that cannot be read are rows "
        "with their error, and the exit status is 1. What a killed run was through with is kept: "
        "give the same command with --resume.",
    )
    triage.add_argument("sources", nargs="+", metavar="SOURCE")
    for name, text in (
        ("csv", "the priority table as CSV"),
        ("xlsx", "the same as a workbook with thumbnails"),
        ("pdf", "a report for people"),
        ("geojson", "the photos that have a position, for GIS"),
        ("zip", "all of these and the overlays of the urgent photos"),
    ):
        triage.add_argument(f"--{name}", type=Path, metavar=f"OUT.{name}", help=text)
    triage.add_argument("--backbone", metavar="NAME", help="checkpoint to use (default: the best)")
    triage.add_argument("--weights", type=Path, default=weights_dir(), metavar="DIR")
    triage.add_argument(
        "--detail",
        action="store_true",
        help="scan each photo in detail as well: slower, and cracks are found at full size",
    )
    triage.add_argument(
        "--survey", metavar="NAME", help="keep photos and answers as a survey, for the app too"
    )
    triage.add_argument("--site", help="of the survey: where it is")
    triage.add_argument(
        "--date", type=date.fromisoformat, metavar="YYYY-MM-DD", help="of the survey: of the visit"
    )
    triage.add_argument("--resume", action="store_true", help="go on where an earlier run stopped")
    triage.add_argument("--restart", action="store_true", help="forget what one was through with")
    bands = BandThresholds()
    for name, start in (
        ("urgent", bands.urgent_percent),
        ("high", bands.high_percent),
        ("watch", bands.watch_percent),
    ):
        triage.add_argument(
            f"--{name}",
            type=float,
            metavar="PERCENT",
            help=f"damage %% from which the band {name.capitalize()} begins ({start:g}, or what "
            "the survey to go on with has)",
        )
    _add_cluster_options(triage)
    triage.set_defaults(run=_triage, parser=triage)


def _add_cluster_options(triage: argparse.ArgumentParser) -> None:
    cluster = triage.add_argument_group(
        "on a cluster",
        "With --engine ray SOURCE is one folder or an address like s3://BUCKET/FOLDER, and the "
        "answers go to Parquet files, from which --csv and --geojson are made. The photos stay "
        "where they are: they are not copied into the store of surveys. Needs "
        f"{CLUSTER_REQUIREMENTS}.",
    )
    cluster.add_argument("--engine", choices=("local", "ray"), default="local")
    cluster.add_argument(
        "--ray-address",
        metavar="HOST:PORT",
        help="of the cluster (default: one of this machine alone, for this run)",
    )
    cluster.add_argument("--out", metavar="DIR", help="folder or address for the Parquet files")
    cluster.add_argument(
        "--photos-per-file",
        type=int,
        metavar="N",
        help="rows in a Parquet file; a run that is killed has kept whole files",
    )


def _triage(options: argparse.Namespace, given: list[str]) -> int:
    if options.resume and options.restart:
        options.parser.error("--resume and --restart cannot both be meant")
    if options.engine == "ray":
        return _triage_on_ray(options, _thresholds(options))
    if not options.resume:
        _thresholds(options)  # wrong use is told before anything is made
    if options.out or options.ray_address or options.photos_per_file:
        options.parser.error("--out, --ray-address and --photos-per-file go with --engine ray")
    options.sources = [Path(source) for source in options.sources]
    if not (options.survey or any(getattr(options, kind) for kind in KINDS)):
        options.parser.error("say what for: --csv, --xlsx, --pdf, --geojson, --zip or --survey")
    card = read_card(options.weights / f"{options.backbone or default_name(options.weights)}.json")
    _check_writable(options)

    from heritage.handover import Handover
    from heritage.sources import list_files
    from heritage.surveys import DONE, SurveyStore
    from heritage.triage import readable_failures, share_cores, triage

    journal = None if options.survey else _journal(options)
    # A shell that fills in wildcards names the journal too.
    listing = list_files([path for path in options.sources if path.resolve() != journal])
    if listing.left_out:
        print(f"left out {listing.left_out} files that are no photos", file=sys.stderr)
    if not listing.sources:
        raise StoreError(
            ", ".join(str(source) for source in options.sources),
            "there is no photo in it",
            "name a folder, a ZIP or photos",
        )
    _check_not_read(options, {source.path for source in listing.sources})
    with closing(_opened(journal) if journal else SurveyStore()) as store:
        survey = _survey(options, store)
        store.add_photos(survey.id, listing.sources, trusted=True)
        run = store.run_with(survey.id, card, detail=options.detail)
        if options.resume:
            store.retry_failed(run.id, readable_failures(store, run.id))
            run = store.run(run.id)
        share_cores()
        if options.detail:
            _tell_budget(options, card.name, run.photos - run.done)
        with _bar(run.photos) as advance:
            run = triage(store, run.id, weights=options.weights, keep=not journal, listen=advance)
        if run.status != DONE:
            raise StoreError(
                survey.name,
                "another process works on it" if run.unfinished else "it was stopped",
                "wait for it, or give the command again with --resume",
            )
        handover = Handover.of(store, run.id)
        for kind in KINDS:
            path = getattr(options, kind)
            if path:
                _hand_out(path, getattr(handover, kind)())
    _tell_failures(handover.rows)
    if journal:
        shutil.rmtree(journal, ignore_errors=True)
    return SOME_FAILED if run.failed else OK


def _triage_on_ray(options: argparse.Namespace, thresholds: BandThresholds) -> int:
    if not options.out or len(options.sources) > 1:
        options.parser.error("--engine ray takes one SOURCE and needs --out")
    if options.survey or options.xlsx or options.pdf or options.zip:
        options.parser.error("with --engine ray there are --csv and --geojson")
    if options.site or options.date:
        options.parser.error("--site and --date are of a survey, which --engine ray does not make")
    if options.photos_per_file is not None and options.photos_per_file < 1:
        options.parser.error("--photos-per-file must be 1 or more")
    _check_writable(options)
    cluster = _cluster()

    from heritage.terminal import progress_bar

    with progress_bar() as progress:
        task = progress.add_task("photos written down", total=None)
        outcome = cluster.triage_on_ray(
            options.sources[0],
            options.out,
            backbone=options.backbone,
            weights=options.weights,
            detail=options.detail,
            address=options.ray_address,
            file_photos=options.photos_per_file,
            resume=options.resume,
            restart=options.restart,
            listen=lambda done, photos: progress.update(task, completed=done, total=photos),
        )
    if outcome.left_out:
        print(f"left out {outcome.left_out} files that are no photos", file=sys.stderr)
    print(f"{outcome.photos:,} photos, {outcome.asked:,} of them read now", file=sys.stderr)
    print(options.out)
    if options.csv or options.geojson:
        from heritage.priority import ranked
        from heritage.spreadsheets import priority_csv, priority_geojson

        rows = ranked(outcome.answers.rows(), thresholds)
        for path, write in ((options.csv, priority_csv), (options.geojson, priority_geojson)):
            if path:
                _hand_out(path, write(rows))
    failures = outcome.answers.failures()
    _tell_failures(failures)
    return SOME_FAILED if failures else OK


def _cluster() -> Any:
    try:
        return import_module("heritage.cluster")
    except ImportError as error:
        if error.name and error.name.split(".")[0] == "heritage":
            raise
        raise HeritageError(
            "--engine ray",
            f"what it needs is not installed here ({error.name or error})",
            f"pip install -r {CLUSTER_REQUIREMENTS}",
        ) from error


def _survey(options: argparse.Namespace, store: SurveyStore) -> Survey:
    """The survey that is meant, with what was said of it: the one of that name, or in a journal
    the only one."""
    name = options.survey or one_line(options.sources[0].resolve().stem) or "Photos"
    survey = store.find_survey(name) if options.survey else next(iter(store.surveys()), None)
    if survey and options.survey and not options.resume:
        raise StoreError(name, "there is a survey of this name", "add --resume to go on with it")
    if not survey:
        return store.create_survey(
            name,
            site=options.site or "",
            visited_on=options.date,
            thresholds=_thresholds(options),
        )
    thresholds = _thresholds(options, survey.thresholds)
    if (options.site, options.date, thresholds) != (None, None, survey.thresholds):
        store.edit_survey(
            survey.id, site=options.site, visited_on=options.date, thresholds=thresholds
        )
    return survey


KINDS = ("csv", "xlsx", "pdf", "geojson", "zip")


def _thresholds(
    options: argparse.Namespace, start: BandThresholds = BandThresholds()
) -> BandThresholds:
    """Those that were given, and the others as in `start`."""
    given = {name: getattr(options, name.removesuffix("_percent")) for name in asdict(start)}
    try:
        return replace(start, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        return options.parser.error(str(error))


def _outputs(options: argparse.Namespace) -> list[Path]:
    return [path for kind in KINDS if (path := getattr(options, kind))]


def _check_writable(options: argparse.Namespace) -> None:
    """Finds out before hours of work, not after, that a file has nowhere to go."""
    outputs = [path.resolve() for path in _outputs(options)]
    if len(set(outputs)) < len(outputs):
        raise StoreError(str(outputs[0]), "two outputs have this name", "name another")
    _check_not_read(options, {str(Path(source).resolve()) for source in options.sources})
    for path in _outputs(options):
        folder = path.resolve().parent
        try:
            if path.is_dir() or not folder.is_dir():
                reason = "this is a folder" if path.is_dir() else "its folder is not there"
                raise StoreError(str(path), reason, "name a file in a folder that is there")
            _journal_of(path).exists()  # raises where the name is too long
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise _not_writable(folder, error) from error


def _check_not_read(options: argparse.Namespace, paths: set[str]) -> None:
    """Raises a StoreError where an output would replace one of the files that are read."""
    for path in _outputs(options):
        if not paths.isdisjoint((str(path.absolute()), str(path.resolve()))):
            raise StoreError(str(path), "photos are read from this file", "name another")


def _not_writable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        str(folder),
        f"no such file can be made in this folder ({error.strerror})",
        "name another file, or one in another folder",
    )


def _journal(options: argparse.Namespace) -> Path:
    """The folder that remembers what is done until the last file is written; not made yet."""
    journal = _journal_of(_outputs(options)[0])
    if options.restart:
        shutil.rmtree(journal, ignore_errors=True)
    elif journal.exists() and not options.resume:
        raise StoreError(
            journal.name,
            "an earlier triage was cut off here",
            "add --resume to go on, or --restart to begin anew",
        )
    return journal


def _journal_of(output: Path) -> Path:
    from heritage.sources import JOURNAL_END

    return output.resolve().with_name(output.resolve().name + JOURNAL_END)


def _opened(journal: Path) -> SurveyStore:
    """The store in a journal, which stays a file, whatever database the surveys are in."""
    from sqlalchemy import URL

    from heritage.surveys import SurveyStore

    try:
        journal.mkdir(exist_ok=True)
    except OSError as error:
        raise _not_writable(journal.parent, error) from error
    # Made of parts, as the name of an output may hold signs that mean something in a URL.
    return SurveyStore(journal, URL.create("sqlite", database=str(journal / "journal.sqlite3")))


def _hand_out(path: Path, data: str | bytes) -> None:
    """Writes a file that was asked for, and says so."""
    try:
        write_atomically(path, data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise StoreError(
            str(path),
            f"it cannot be written ({error.strerror})",
            "make room or name another file, then add --resume",
        ) from error
    print(path)


def _tell_budget(options: argparse.Namespace, checkpoint: str, photos: int) -> None:
    from heritage.inspection import Inspector
    from heritage.triage import threads

    one_s = Inspector(checkpoint, folder=options.weights).scan_seconds(4000, 3000)
    print(
        f"a detail scan takes about {one_s:.0f} s for a photo of 12 megapixels, "
        f"{photos} of them {one_s * photos / threads() / 60:.0f} min",
        file=sys.stderr,
    )


def _tell_failures(rows: Sequence[Any]) -> None:
    for row in rows:
        if row.error:
            print(HeritageError(row.photo, *_reason_and_advice(row.error)), file=sys.stderr)


def _reason_and_advice(error: str) -> tuple[str, str]:
    reason, _, advice = error.partition("; ")
    return reason, advice


@contextmanager
def _bar(photos: int) -> Iterator[Callable[[Any], None]]:
    """A progress bar that is told of each run as it stands."""
    from rich.progress import TextColumn

    from heritage.terminal import progress_bar

    first: list[Any] = []
    with progress_bar(TextColumn("{task.fields[speed]}")) as progress:
        task = progress.add_task("photos", total=photos, speed="")

        def advance(run: Any) -> None:
            if not first:
                first.append(run)
            worked = run.seconds - first[0].seconds
            speed = f"{(run.done - first[0].done) / worked:.1f} photos/s" if worked > 1 else ""
            progress.update(task, completed=run.done, speed=speed)

        yield advance
