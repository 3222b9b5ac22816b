"""The same work from the shell; `python -m heritage --help` lists the commands."""

from __future__ import annotations

import argparse
import glob
import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heritage.backbones import BACKBONES, CASCADE, CASCADE_STAGES
from heritage.cards import (
    FLOAT16,
    INT8,
    WEIGHTS,
    ModelCard,
    check_name,
    list_cards,
    weights_dir,
)
from heritage.cli_triage import OK, SOME_FAILED, WRONG_USE, add_triage
from heritage.errors import CheckpointError, HeritageError, PhotoError, TrainingError, one_line
from heritage.figures import (
    FIGURE_TITLES,
    SPLIT_TITLES,
    chance_text,
    in_told_order,
    percent_text,
)
from heritage.methods import GRAD_CAM, METHODS
from heritage.overlays import COLOUR_MAPS
from heritage.training.config import STAGE_TWO_EPOCHS, PointingConfig, Step, TrainingConfig
from heritage.words import no_scan, nothing_hot

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from heritage.inspection import Inspection, Inspector
    from heritage.photos import Photo

PRECISIONS = {"float16": FLOAT16, "int8": INT8}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        Exit status: 0 done, 1 something could not be done (named on stderr), 2 wrong use.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Windows would write another encoding to a file
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        return options.run(options, given)
    except HeritageError as error:
        return _complain(error)
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m heritage", description="Damage inspection for photos of historic buildings."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    inspect = commands.add_parser("inspect", help="damage %% and heat map of photos")
    inspect.add_argument("photos", nargs="+", metavar="PHOTO")
    _add_checkpoint_options(inspect)
    inspect.add_argument("--json", action="store_true", help="print one JSON list")
    inspect.add_argument("--overlay", type=Path, metavar="DIR", help="write overlay PNGs to DIR")
    inspect.add_argument(
        "--detail", action="store_true", help="scan the photos at full size, tile by tile"
    )
    inspect.add_argument(
        "--heat-map", choices=list(METHODS), help=f"how the heat map is made (default: {GRAD_CAM})"
    )
    inspect.add_argument("--opacity", type=float, default=60, metavar="PERCENT", help="of the heat")
    inspect.add_argument("--colour-map", choices=list(COLOUR_MAPS), default=next(iter(COLOUR_MAPS)))
    inspect.set_defaults(run=_inspect)

    add_triage(commands)

    listing = commands.add_parser("backbones", help="what can be used or trained")
    listing.add_argument("--json", action="store_true", help="print one JSON list")
    listing.add_argument("--weights", type=Path, default=weights_dir(), metavar="DIR")
    listing.set_defaults(run=_backbones)

    train = commands.add_parser(
        "train",
        help="fit a backbone to labelled photos",
        description="DATA is a folder with subfolders damaged and sound, or a manifest.csv. A run "
        "that was stopped goes on when the same command is given again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.add_argument("data", type=Path, metavar="DATA")
    train.add_argument("--out", type=Path, default=weights_dir(), help="where the checkpoint goes")
    train.add_argument("--name", default="", help="name of the checkpoint, if not the backbone's")
    train.add_argument("--run", type=Path, dest="run_dir", help="folder for the run in progress")
    train.add_argument("--restart", action="store_true", help="forget a run in progress")
    train.add_argument("--overwrite", action="store_true", help="replace a checkpoint of that name")
    train.add_argument("--unlabelled", type=Path, help="photos that only the teacher labels")
    train.add_argument(
        "--rendered", type=Path, help="pictures that a program drew, in folders as DATA"
    )
    train.add_argument("--licence", default="", help="terms of the weights, for the card")
    train.add_argument(
        "--precision",
        choices=list(PRECISIONS),
        default="float16",
        help="number format of the stored weights",
    )
    _add_device_option(train)
    train.add_argument(
        "--stage-one",
        default=CASCADE_STAGES[0],
        metavar="NAME",
        help="of a cascade: the checkpoint that is its stage 1; the other options tell how the "
        "stage 1 of each fold is trained",
    )
    train.add_argument(
        "--stage-two-init",
        default="imagenet",
        metavar="INIT",
        help="of a cascade: what its stage 2 starts from, like --init",
    )
    train.add_argument(
        "--stage-two-epochs", type=int, default=STAGE_TWO_EPOCHS, metavar="N", help="of a cascade"
    )
    _add_config_options(train)
    train.set_defaults(run=_train)

    pointing = commands.add_parser(
        "train-pointing",
        help="give a checkpoint a head that points, for sharp detail scans",
        description="DATA is as for train; only photos of the split train are used. The checkpoint "
        "answers as before. Half an hour or more on a laptop; a run that is stopped begins anew.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    pointing.add_argument("data", type=Path, metavar="DATA")
    pointing.add_argument("--backbone", required=True, metavar="NAME", help="the checkpoint")
    pointing.add_argument("--weights", type=Path, default=weights_dir(), metavar="DIR")
    _add_device_option(pointing)
    for option, text in POINTING_HELP.items():
        default = getattr(PointingConfig(), option)
        pointing.add_argument(
            "--" + option.replace("_", "-"),
            type=type(default),
            default=default,
            metavar="FILE" if option == "init" else "N",
            help=text,
        )
    pointing.set_defaults(run=_train_pointing)

    doctor = commands.add_parser("doctor", help="is everything in order here, and what to do")
    doctor.add_argument(
        "--remove-leftovers",
        action="store_true",
        help="remove kept files that no survey of the database has, a day old at least",
    )
    doctor.set_defaults(run=_doctor)

    evaluate = commands.add_parser("evaluate", help="score checkpoints on labelled photos")
    evaluate.add_argument("data", type=Path, metavar="DATA")
    evaluate.add_argument(
        "--backbone",
        action="extend",
        nargs="+",
        dest="backbones",
        metavar="NAME",
        help="the checkpoints, after DATA (default: all)",
    )
    evaluate.add_argument("--weights", type=Path, default=weights_dir(), metavar="DIR")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")
    evaluate.add_argument(
        "--update-cards", action="store_true", help="write temperature and figures into the cards"
    )
    evaluate.add_argument(
        "--heat-maps",
        type=_photo_count,
        default=0,
        metavar="N",
        help="examine the heat maps of N damaged photos by deletion and insertion",
    )
    evaluate.add_argument(
        "--speed", action="store_true", help="time an inspection against a named peer"
    )
    _add_device_option(evaluate)
    evaluate.set_defaults(run=_evaluate)
    return parser


def _photo_count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{one_line(text)}' is no number of photos")
    return int(text)


def _add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", metavar="NAME", help="checkpoint to use (default: the best)")
    parser.add_argument("--weights", type=Path, default=weights_dir(), metavar="DIR")


def _add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where the arithmetic is done; auto takes a GPU where there is one",
    )


POINTING_HELP = {
    "init": "file of a head that points to go on from, of the same backbone",
    "steps": "optimiser steps",
    "batch_size": "views per step",
    "learning_rate": "peak rate of Adam",
    "seed": "seed of everything random",
    "workers": "processes that prepare views",
}
CONFIG_HELP = {
    "backbone": "architecture",
    "init": "imagenet (downloaded), scratch, or a safetensors file",
    "keep_head": "go on from the head of that file, too",
    "keep_norms": "batch norms keep the statistics that they start with",
    "epochs": "passes over the photos",
    "batch_size": "photos per step",
    "learning_rate": "peak rate of Adam for the features",
    "head_rate_factor": "how many times faster the new head learns",
    "weight_decay": "decoupled weight decay",
    "warmup_share": "share of the steps in which the rate rises",
    "ema_decay": "decay of the running average of the weights",
    "patience": "epochs without improvement before stopping early",
    "crop_side_px": "side of the training crops in pixels; 0: the backbone's own",
    "full_size_epochs": "closing epochs with larger crops",
    "full_size_px": "side of the crops in the closing epochs; 0: the backbone's own",
    "frozen_blocks": "leading parts of the features that keep their starting weights",
    "smallest_crop": "least share of a damaged photo's area in a crop",
    "smallest_crop_sound": "the same for sound photos, of which every part is sound",
    "painted_share": "share of the views of sound photos on which damage is painted",
    "turned_share": "share of the photos turned at random by quarter turns",
    "rendered_share": "share of the views that are of --rendered pictures",
    "rotation_degrees": "largest random rotation",
    "jitter": "strength of the colour jitter",
    "prune": "share of the parameters to remove after training",
    "prune_epochs": "epochs of fine-tuning after that",
    "prune_of": "checkpoint to prune as it is, instead of training one first",
    "validation_share": "share kept for validation where DATA has no split",
    "teacher": "checkpoint to learn from as well",
    "teacher_share": "weight of the teacher's answers against the labels",
    "teacher_temperature": "softening of the teacher's answers",
    "feature_share": "weight of the teacher's feature map",
    "seed": "seed of everything random",
    "workers": "processes that prepare photos",
    "half_precision": "bfloat16 arithmetic where the processor has it",
}


def _add_config_options(parser: argparse.ArgumentParser) -> None:
    for option in fields(TrainingConfig):
        flag = "--" + option.name.replace("_", "-")
        text, default = CONFIG_HELP[option.name], option.default
        if isinstance(default, bool):
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=default, help=text
            )
        elif option.name == "backbone":
            parser.add_argument(flag, choices=list(BACKBONES), default=default, help=text)
        else:
            parser.add_argument(flag, type=type(default), default=default, help=text)


def _inspect(options: argparse.Namespace, given: list[str]) -> int:
    from heritage.exports import overlay_png, safe_stem
    from heritage.inspection import Inspector
    from heritage.photos import open_photo

    if not 0 <= options.opacity <= 100:
        print("--opacity must be from 0 to 100", file=sys.stderr)
        return WRONG_USE
    if options.detail and options.heat_map:
        print(
            "--detail makes a heat map of its own, so that --heat-map would change nothing; "
            "leave one of them out",
            file=sys.stderr,
        )
        return WRONG_USE
    inspector = Inspector(options.backbone, folder=options.weights)
    if options.overlay:
        try:
            options.overlay.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            print(f"{options.overlay}: {error.strerror}; name another folder", file=sys.stderr)
            return SOME_FAILED
    results: list[dict[str, Any]] = []
    written: set[str] = set()
    status = OK
    for path in _expanded(options.photos):
        try:
            photo = open_photo(path)
            inspection = inspector.inspect(photo, options.heat_map or GRAD_CAM)
            if options.detail:
                inspection = _scanned(inspector, photo, inspection)
            results.append(inspection.as_dict())
            if not options.json:
                print(_line(results[-1]))
            if options.overlay:
                stem = _unused(safe_stem(photo.name), written)
                png = overlay_png(
                    photo,
                    inspection,
                    opacity_percent=options.opacity,
                    colour_map=options.colour_map,
                )
                _write_overlay(options.overlay / f"{stem}.overlay.png", png)
        except HeritageError as error:
            status = _complain(error)
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    return status


def _scanned(inspector: Inspector, photo: Photo, whole: Inspection) -> Inspection:
    """The detail scan; where there can be none, the whole photo's answer with the reason."""
    from heritage.terminal import progress_bar

    seconds = inspector.scan_seconds(photo.width, photo.height)
    with progress_bar() as progress:
        task = progress.add_task(f"{photo.name}, about {seconds:.0f} s", total=None)
        try:
            return inspector.scan(
                photo,
                whole,
                lambda done, tiles: progress.update(task, completed=done, total=tiles),
            )
        except PhotoError as error:
            return replace(whole, warnings=(*whole.warnings, no_scan(error)))


def _line(result: dict[str, Any]) -> str:
    heat = (
        f"affected area {result['affected_percent']:.1f} %, {len(result['regions'])} region(s)"
        if result["evidence"]
        else nothing_hot(result["method"])
    )
    notes = "".join(f"\n    {warning}" for warning in result["warnings"])
    percent = f"{percent_text(result['damage_percent']):>8}  {result['band']:<6}"
    return f"{percent}  {result['photo']}  ({heat}){notes}"


def _expanded(photos: list[str]) -> list[str]:
    """Names with wildcards filled in, which the Windows shells leave to the program."""
    return [
        path
        for given in photos
        # Unlike pathlib's, this `exists` holds for folders that one may not enter, too.
        for path in (os.path.exists(given) and [given]) or sorted(glob.glob(given)) or [given]  # noqa: PTH110, PTH207
    ]


def _write_overlay(path: Path, png: bytes) -> None:
    try:
        path.write_bytes(png)
    except OSError as error:
        raise HeritageError(
            path.name, f"the overlay cannot be written ({error.strerror})", "name another folder"
        ) from error


def _unused(stem: str, written: set[str]) -> str:
    candidate, number = stem, 2
    while candidate.casefold() in written:  # some file systems take Tower and tower for one
        candidate, number = f"{stem}-{number}", number + 1
    written.add(candidate.casefold())
    return candidate


def _backbones(options: argparse.Namespace, given: list[str]) -> int:
    listing = backbone_listing(options.weights)
    if options.json:
        print(json.dumps(listing, indent=2, ensure_ascii=False))
        return OK
    names, titles = (max(len(entry[key]) for entry in listing) for key in ("name", "title"))
    for entry in listing:
        figures = _balanced_accuracies(entry["metrics"])
        told = figures or ("trained" if entry["trained"] else "not trained yet")
        size = f"{entry['parameters'] / 1e6:.1f} M" if entry["parameters"] else ""
        print(
            f"{entry['name']:<{names}}  {entry['title']:<{titles}}  {entry['input_size']:>4} px "
            f"{size:>7}  {told}"
        )
    return OK


def _balanced_accuracies(metrics: Mapping[str, Any]) -> str:
    """How right a checkpoint is; on other sources first, as one's own photos are of others."""
    return "; ".join(
        f"{SPLIT_TITLES[split].lower()}: balanced accuracy "
        f"{metrics[split]['balanced_accuracy']['value']:.3f}, n={metrics[split]['n']}"
        for split in ("test_other_source", "test")
        if "balanced_accuracy" in metrics.get(split, {})
    )


def backbone_listing(folder: Path | None = None) -> list[dict[str, Any]]:
    """One entry per checkpoint in `folder`, in the select box's order, then per backbone without.

    Keys: `name, title, backbone, input_size` (pixels), `parameters`, `trained`, `temperature`,
    `metrics` (the card's; None and empty where untrained).
    """
    from heritage.classifiers import parameters_when_built

    cards = in_told_order(list_cards(folder))
    listing = [_listed(card) for card in cards]
    trained = {card.backbone for card in cards}
    for name, backbone in BACKBONES.items():
        if name not in trained:
            listing.append(
                {
                    "name": name,
                    "title": backbone.title,
                    "backbone": name,
                    "input_size": backbone.input_size_px,
                    "parameters": parameters_when_built(backbone),
                    "trained": False,
                    "temperature": None,
                    "metrics": {},
                }
            )
    return listing


def _listed(card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "title": card.title,
        "backbone": card.backbone,
        "input_size": card.input_size_px,
        "parameters": card.parameters,
        "trained": True,
        "temperature": card.temperature,
        "metrics": card.metrics,
    }


def _train(options: argparse.Namespace, given: list[str]) -> int:
    from heritage.training.devices import joined
    from heritage.training.jobs import runs_dir
    from heritage.training.run import train

    config = TrainingConfig(**{f.name: getattr(options, f.name) for f in fields(TrainingConfig)})
    name = options.name or config.backbone
    check_name(name)
    run_dir = options.run_dir or runs_dir() / name
    with joined(_device(options.device)) as devices:
        run = partial(
            train,
            config,
            options.data,
            out=options.out,
            name=name,
            run_dir=run_dir,
            unlabelled=options.unlabelled,
            rendered=options.rendered,
            restart=options.restart,
            overwrite=options.overwrite,
            licence=options.licence,
            command=_portable_command(given),
            precision=PRECISIONS[options.precision],
            devices=devices,
            stage_one=options.stage_one,
            stage_two_init=options.stage_two_init,
            stage_two_epochs=options.stage_two_epochs,
        )
        if not devices.is_main:
            run()
            return OK
        card = _reported(run, config, run_dir, options)
    print(options.out / f"{card.name}{WEIGHTS}")
    _print_metrics(card)
    return OK


def _reported(
    run: Callable[..., ModelCard],
    config: TrainingConfig,
    run_dir: Path,
    options: argparse.Namespace,
) -> ModelCard:
    """What `run` returns, its progress told to the terminal and in `run_dir`."""
    from heritage.terminal import progress_bar
    from heritage.training.config import EpochRecord
    from heritage.training.jobs import reporting

    first = 0 if config.prune_of else config.epochs
    epochs = first + (config.prune_epochs if config.prune else 0)
    if config.backbone == CASCADE:
        from heritage.training.cascade import epochs_in_all

        epochs = epochs_in_all(
            config, options.stage_two_epochs, unlabelled=bool(options.unlabelled)
        )
    with progress_bar() as progress, reporting(run_dir, afresh=options.restart) as reporter:
        reading = progress.add_task("reading photos", total=None)
        fitting = progress.add_task("training", total=None, visible=False)

        def on_photo(total: int) -> Callable[[], None]:
            progress.update(reading, total=total)
            done = count(1)

            def read() -> None:
                progress.advance(reading)
                reporter.photos(next(done), total)

            return read

        def listen(event: Step | EpochRecord) -> None:
            reporter.event(event, epochs)
            if isinstance(event, Step):
                show_step(progress, fitting, event, epochs)
            else:
                progress.console.print(
                    f"epoch {event.epoch}: train loss {event.train_loss:.3f}; on validation "
                    f"loss {event.validation_loss:.3f}, "
                    f"balanced accuracy {event.validation_balanced_accuracy:.3f}, "
                    f"AUROC {event.validation_auroc:.3f}; {event.seconds:.0f} s"
                )

        return run(listen=listen, on_photo=on_photo, on_scoring=lambda: reporter.phase("scoring"))


def show_step(progress: Progress, task: TaskID, step: Step, epochs: int) -> None:
    """Moves the bar of a training to a batch, of so many epochs in all."""
    progress.update(
        task,
        visible=True,
        total=epochs * step.steps,
        completed=(step.epoch - 1) * step.steps + step.step,
        description=f"epoch {step.epoch}/{epochs}, loss {step.loss:.3f}",
    )


def _counted(progress: Progress, words: str) -> Callable[[int], Callable[[], None]]:
    """A bar that is told how many there are; what that returns is called at each."""

    def begin(total: int) -> Callable[[], None]:
        task = progress.add_task(words, total=total)
        return lambda: progress.advance(task)

    return begin


def _train_pointing(options: argparse.Namespace, given: list[str]) -> int:
    from heritage.terminal import progress_bar
    from heritage.training.devices import started_processes
    from heritage.training.pointing import train_pointing

    if started_processes() > 1:
        raise TrainingError(
            "train-pointing", "several processes cannot train the head", "train it with one process"
        )
    chosen = {name: getattr(options, name) for name in POINTING_HELP}
    config = PointingConfig(**chosen)
    with progress_bar() as progress:
        on_photo = _counted(progress, "reading photos")
        fitting = progress.add_task("training", total=config.steps, visible=False)
        card = train_pointing(
            options.backbone,
            options.data,
            config,
            folder=options.weights,
            command=_portable_command(given),
            device=_device(options.device),
            listen=lambda step, loss: progress.update(
                fitting, visible=True, completed=step, description=f"training, loss {loss:.3f}"
            ),
            on_photo=on_photo,
        )
    print(options.weights / f"{card.name}.pointer.safetensors")
    return OK


def _device(asked: str) -> str:
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise TrainingError("cuda", "there is no such device here", "use --device cpu")
    return asked if asked != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _doctor(options: argparse.Namespace, given: list[str]) -> int:
    from heritage.doctor import examine, remove_leftovers

    if options.remove_leftovers:
        print(f"removed {remove_leftovers()} files")
        return OK
    status = OK
    for found in examine():
        print(f"{'ok   ' if found.good else 'WRONG'}  {found.what}: {found.words}", flush=True)
        if not found.good:
            print(f"       → {found.advice}")
            status = SOME_FAILED
    return status


def _evaluate(options: argparse.Namespace, given: list[str]) -> int:
    from heritage.checkpoints import check_writable, update_card
    from heritage.terminal import progress_bar
    from heritage.training.run import LabelledPhotos, evaluate

    made = ["temperature", "unsure", "metrics"]
    made += ["heat_maps"] if options.heat_maps else []
    made += ["speed"] if options.speed else []
    names = options.backbones or [card.name for card in list_cards(options.weights)]
    if not names:
        raise CheckpointError(
            options.weights.name, "it holds no checkpoint", "train one: python -m heritage train"
        )
    if options.update_cards:
        check_writable(options.weights)
    results = {}
    status = OK
    photos = LabelledPhotos(options.data)
    for name in names:
        try:
            with progress_bar(disable=not sys.stderr.isatty()) as progress:
                scoring = progress.add_task(f"scoring {name}", total=photos.answers)
                card = evaluate(
                    name,
                    photos,
                    options.weights,
                    recalibrate=options.update_cards,
                    heat_map_photos=options.heat_maps,
                    speed=options.speed,
                    on_photo=_counted(progress, "reading photos"),
                    on_answers=partial(progress.advance, scoring),
                    on_heat_map=_counted(progress, "heat maps"),
                    device=_device(options.device),
                )
            if options.update_cards:
                update_card(card, made, options.weights)
        except CheckpointError as error:  # the others can still be scored
            status = _complain(error)
            continue
        results[name] = dict(card.metrics)
        if options.heat_maps:
            results[name]["heat_maps"] = card.heat_maps
        if options.speed:
            results[name]["speed"] = card.speed
        if not options.json:
            heat_maps = card.heat_maps if options.heat_maps else {}
            _print_metrics(
                replace(card, heat_maps=heat_maps, speed=card.speed if options.speed else {})
            )
    if options.json:
        print(json.dumps(results, indent=2))
    return status


def _print_metrics(card: ModelCard) -> None:
    for split, figures in card.metrics.items():
        print(f"{card.title}, {split}, n={figures['n']}")
        _print_figures(figures, "  ")
        if "ece_by_chance" in figures:
            print(f"  {'ece by chance':<18} {chance_text(figures)}")
        for cell, photos in figures.get("confusion", {}).items():
            print(f"  {cell.replace('_', ' '):<24} {photos}")
        for source, found in figures.get("sources", {}).items():
            print(f"  {one_line(source)}, n={found['n']}")
            _print_figures(found, "    ")
    for name, figure in card.heat_maps.items():
        if isinstance(figure, dict) and "value" in figure:
            print(f"  heat maps, {name:<18} {_with_interval(figure)}")
    if card.speed:
        print(f"  one inspection takes {card.speed['ratio']:.2f} × {card.speed['peer']}")


def _print_figures(figures: Mapping[str, Any], indent: str) -> None:
    for name in FIGURE_TITLES:
        if isinstance(figure := figures.get(name), dict):
            print(f"{indent}{name:<18} {_with_interval(figure)}")


def _with_interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f}  [{figure['low']:.3f}, {figure['high']:.3f}]"


def _portable_command(given: list[str]) -> str:
    """The command line as typed, file arguments cut to their last part."""
    parts = []
    for before, part in zip(["", *given], given, strict=False):
        flag, equals, value = part.partition("=") if part.startswith("--") else ("", "", part)
        if ("/" in value or "\\" in value) and "--licence" not in (flag, before):
            value = Path(value).name
        parts.append(flag + equals + value)
    command = "python -m heritage " + shlex.join(parts)
    return command.encode(errors="replace").decode()  # what is no text cannot stand in a card


def _complain(error: HeritageError) -> int:
    print(error, file=sys.stderr)
    return SOME_FAILED
