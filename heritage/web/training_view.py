"""Training on one's own labelled photos: look at them, choose a recipe, watch the run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from heritage.access import Role, noted
from heritage.backbones import BACKBONES, CASCADE, CASCADE_STAGES, get_backbone
from heritage.cards import WEIGHTS, is_taken, list_cards, read_card, weights_dir
from heritage.errors import DatasetError, HeritageError, TrainingError
from heritage.exports import encode_png
from heritage.figures import SPLIT_TITLES, counted, duration_text, interval_text
from heritage.priority import DAMAGED, SOUND
from heritage.sources import photo_root
from heritage.store.database import LABELS, surveys_dir
from heritage.training.config import TrainingConfig
from heritage.training.jobs import (
    LOG,
    STARTING,
    Job,
    Progress,
    Status,
    list_jobs,
    runs_dir,
    start,
)
from heritage.web.access import may, visitor
from heritage.web.charts import PLAIN, confusion_chart, learning_curves
from heritage.web.frame import errors_in_words, plain
from heritage.web.models import data_url
from heritage.web.survey_data import labels_manifest, store
from heritage.words import short_path

if TYPE_CHECKING:
    from heritage.training.datasets import Sample
    from heritage.training.preview import Double

FEW_PHOTOS = 30
LOPSIDED = 4
VARIANTS = 9
PAIRS_SHOWN = 6
LOOK_SIDE_PX = 256
SHOWN_EVERY_S = 2.0
AGAIN_S = 30.0
LOG_LINES = 40
LOG_BYTES = 20_000
CROPS_PX = (192, 160, 128, 96)
STAGE_ONE_HELP = (
    "A MobileNetV3-Large, best one that you have trained on these photos. Its heat maps lie over "
    "the photos that stage 2 reads."
)
FOLDS_HELP = (
    "Three more networks like stage 1 make the heat maps that stage 2 learns from, each of photos "
    "that it has not seen. So none may start from what has learned from these photos."
)
CASCADE_WORDS = (
    "Stage 2 learns from photos under the heat of networks that have not seen them. Three of these "
    "are trained first, then stage 2, and then, if your photos have a split aside, the rivals that "
    "it is compared with: hours without a GPU."
)
TEACHER_HELP = (
    "A checkpoint whose answers and features it takes as its teacher's, beside your labels. Few "
    "photos go further so, and a start from nothing becomes worth a try."
)
LAYOUT = """\
my-photos/
    damaged/
        town hall/   IMG_0001.jpg  IMG_0002.jpg
        chapel/      …
    sound/
        town hall/   IMG_0107.jpg
        mill/        …
"""


def show_training() -> None:
    """The whole page: runs in progress first, then what a new one needs."""
    st.title("Train")
    st.markdown(
        "Teach a backbone your own buildings. It learns from photos that you have sorted into "
        "*damaged* and *sound*, keeps whole buildings aside to test itself on, and then appears in "
        "the select box on Inspect. Training goes on when this page is closed."
    )
    if not may(Role.ADMIN):
        st.info("To train, you need the role admin.", icon=":material/lock:")
        return
    if list_jobs():
        _show_runs()
    st.markdown("## New run")
    samples = _photos_input()
    if not samples:
        return
    _show_counts(samples)
    recipe = _recipe()
    looks, doubles = st.columns(2, gap="large")
    with looks:
        _show_variants(samples, recipe)
    with doubles:
        _show_doubles(samples)
    _start(recipe)


def _photos_input() -> list[Sample] | None:
    if st.session_state.pop("take_verdicts", False):
        with errors_in_words():
            st.session_state["training_data"] = labels_manifest()
    folder = st.text_input(
        "Labelled photos: a folder on the computer that runs Heritage",
        placeholder="/photos/my-photos, or a manifest.csv",
        key="training_data",
        persist_state="session",
        help="The path of the folder, or of a CSV with the columns path and label, and if you like "
        "split, source and group.",
    ).strip(' "')
    if not folder:
        st.markdown("Sort your photos like this. Folders within the two are buildings.")
        st.code(LAYOUT, language=None)
        _offer_verdicts("Take the verdicts given in surveys")
        return None
    if Path(folder).match(LABELS):
        _offer_verdicts("Take the verdicts anew, with those given since")
    with errors_in_words(), st.spinner("Looking into the folder …"):
        try:
            samples = _samples(str(_allowed(folder)))
        except HeritageError as error:
            subject = error.subject if photo_root() is None else folder
            raise DatasetError(subject, error.reason, error.advice) from error
        if not all(_is_for_visitors(sample.path.resolve()) for sample in samples):
            raise _outside(folder)
        return samples
    return None


def _offer_verdicts(words: str) -> None:
    """The photos that were judged in surveys, as something to learn from."""
    with errors_in_words():
        if store().has_verdicts((DAMAGED, SOUND)) and st.button(words, icon=":material/gavel:"):
            st.session_state["take_verdicts"] = True
            st.rerun()


def _allowed(given: str) -> Path:
    """The folder or manifest that a visitor named.

    Raises:
        DatasetError: It is no path, or not one for visitors.
    """
    try:
        path = ((photo_root() or Path.cwd()) / Path(given).expanduser()).resolve()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise DatasetError(given, "this path cannot be read", "check it") from error
    if not _is_for_visitors(path):
        raise _outside(given)
    return path


def _is_for_visitors(path: Path) -> bool:
    """Whether visitors may train on it: below the server's photos, or labelled by verdicts here."""
    root, kept = photo_root(), surveys_dir()
    return (
        root is None
        or path.is_relative_to(root)
        or (path.parent == kept and path.match(LABELS))
        or path.is_relative_to(kept / "photos")
    )


def _outside(given: str) -> DatasetError:
    return DatasetError(given, "it is outside the photos of this server", "name one of those")


@st.cache_data(max_entries=4, ttl="1m", show_spinner=False)
def _samples(path: str) -> list[Sample]:
    from heritage.training.datasets import read_samples, with_validation

    return with_validation(read_samples(Path(path)))


def _show_counts(samples: list[Sample]) -> None:
    from heritage.training.datasets import CLASSES, TRAIN, count_by

    buildings = len({sample.group for sample in samples if not sample.lone})
    lone = sum(sample.lone for sample in samples)
    with st.container(horizontal=True, gap="large"):
        for label, name in reversed(list(enumerate(CLASSES))):
            photos = sum(sample.label == label for sample in samples)
            st.metric(f"{name.capitalize()} photos", f"{photos:,}", width="content")
        st.metric("Buildings or scenes", f"{buildings:,}", width="content")
    table = pd.DataFrame(count_by(samples)).T[[*reversed(CLASSES)]].rename(columns=str.capitalize)
    table.index = [name.replace("_", " ").capitalize() for name in table.index]
    st.dataframe(table, width=420)
    counts = [sum(s.label == label for s in samples if s.split == TRAIN) for label in (0, 1)]
    if min(counts) < FEW_PHOTOS:
        st.warning(
            f"With only {min(counts)} training photos of one class the result will be a guess. "
            f"Some {FEW_PHOTOS} of either kind are a beginning; a few hundred, from several "
            "buildings, make it useful.",
            icon=":material/warning:",
        )
    if lone:
        st.warning(
            f"Of {counted(lone)} nothing tells which building they show: one building may be both "
            "among the photos learned from and those kept aside, and the figures will flatter. Put "
            "the photos of each building into a folder of its own.",
            icon=":material/warning:",
        )
    if max(counts) > LOPSIDED * max(1, min(counts)):
        st.info(
            "One class has many more photos than the other. Both are drawn equally often while "
            "training, but the smaller one is soon known by heart.",
            icon=":material/balance:",
        )


@dataclass(frozen=True)
class Recipe:
    """What is to be trained, and of a cascade, what of; see `jobs.Job`."""

    config: TrainingConfig
    stage_one: str = ""
    stage_two_init: str = ""


def _recipe() -> Recipe | None:
    st.markdown("### Recipe")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if st.session_state.get("train_backbone") not in BACKBONES:
            st.session_state["train_backbone"] = "mobilenet_v2"
        backbone = st.selectbox(
            "Backbone to train",
            list(BACKBONES),
            key="train_backbone",
            persist_state="session",
            format_func=lambda name: BACKBONES[name].title,
            width=240,
        )
        stage_one = stage_two_init = ""
        if backbone == CASCADE:
            firsts = _whole(CASCADE_STAGES[0])
            stage_one = _chosen("Stage 1", firsts, "train_stage_one", 300, STAGE_ONE_HELP)
            init = _chosen(
                "Folds start from",
                _starts(CASCADE_STAGES[0], but=stage_one),
                f"train_start_{backbone}",
                380,
                FOLDS_HELP,
            )
            stage_two_init = _chosen(
                "Stage 2 starts from", _starts(CASCADE_STAGES[1]), "train_stage_two", 380
            )
        else:
            init = _chosen("Start from", _starts(backbone), f"train_start_{backbone}", 380)
        epochs = st.number_input(
            "Epochs",
            1,
            500,
            15,
            key="train_epochs",
            persist_state="session",
            width=130,
            help="How often each fold goes through its photos; stage 2 does ten times at most."
            if backbone == CASCADE
            else "How often it goes through all photos.",
        )
    if backbone == CASCADE:
        st.caption(CASCADE_WORDS)
    with st.expander("More settings"), st.container(horizontal=True):
        batch_size = st.number_input(
            "Photos per batch",
            2,
            256,
            32,
            key="train_batch",
            persist_state="session",
            width=170,
            help="Fewer where the memory does not suffice, as with large backbones.",
        )
        rate = st.select_slider(
            "Learning rate",
            [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3],
            1e-4,
            format_func=lambda value: f"{value:g}",
            key="train_rate",
            persist_state="session",
            width=260,
            help="How boldly it learns. 1e-4 suits a start from trained weights, 1e-3 one from "
            "nothing.",
        )
        patience = st.number_input(
            "Stop after epochs without improvement",
            1,
            500,
            5,
            key="train_patience",
            persist_state="session",
            width=300,
        )
        prune = 0
        if backbone != CASCADE:
            prune = st.slider(
                "Prune, %",
                0,
                60,
                0,
                5,
                key="train_prune",
                persist_state="session",
                width=220,
                help="Share of the network to cut away at the end.",
            )
        as_it_is = (
            prune > 0
            and init.endswith(WEIGHTS)
            and st.toggle(
                "Prune it as it is",
                key="train_as_it_is",
                persist_state="session",
                help="Cuts away at once what matters least in the checkpoint it starts from, and "
                "tunes the rest for a few epochs, with that checkpoint as teacher: quicker than "
                "training it anew first.",
            )
        )
        teacher = ""
        if backbone != CASCADE:  # one that knows the photos would tell the folds of them
            teacher = _chosen("Learn also from", _teachers(), "train_teacher", 260, TEACHER_HELP)
        crop_px = st.selectbox(
            "Crops",
            [0, *(side for side in CROPS_PX if side < get_backbone(backbone).input_size_px)],
            format_func=lambda side: (
                f"{side} pixels, full size at the end"
                if side
                else f"{get_backbone(backbone).input_size_px} pixels, full size"
            ),
            key=f"train_crops_{backbone}",
            persist_state="session",
            width=260,
            help="It learns from parts of photos. Smaller ones train several times faster; the "
            "last epoch, if it is not stopped before, has those of full size.",
        )
        painted = st.toggle(
            "Paint damage on sound photos",
            key="train_painted",
            persist_state="session",
            help="A quarter of the views of sound photos get a painted crack, spalled patch or "
            "bloom of salt and count as damaged: the same walls in both classes.",
        )
    with errors_in_words():
        config = TrainingConfig(
            backbone=backbone,
            init=init,
            epochs=int(epochs),
            batch_size=int(batch_size),
            learning_rate=rate,
            patience=int(patience),
            prune=prune / 100,
            prune_of=init if as_it_is else "",
            painted_share=0.25 if painted else 0.0,
            teacher=teacher,
            crop_side_px=crop_px,
            full_size_epochs=1 if crop_px else 0,
        )
        if backbone == CASCADE and not stage_one:
            raise TrainingError(
                get_backbone(CASCADE).title,
                "there is no stage 1 for it yet",
                f"train a {get_backbone(CASCADE_STAGES[0]).title} on these photos before",
            )
        return Recipe(config, stage_one, stage_two_init)
    return None


def _chosen(label: str, options: dict[str, str], key: str, width: int, words: str = "") -> str:
    """The key of what is chosen; one that is no longer there gives way to the first.

    Options of another kind need another `key`: browsers go on showing what was chosen by it.
    """
    if key in st.session_state and st.session_state[key] not in options:
        st.session_state[key] = next(iter(options), None)
    chosen = st.selectbox(
        label,
        list(options),
        format_func=lambda option: options.get(option, option),
        key=key,
        persist_state="session",
        width=width,
        help=words or None,
    )
    return chosen or ""


def _whole(backbone: str) -> dict[str, str]:
    """Names and titles of the checkpoints that nothing was cut away from."""
    return {
        card.name: card.title
        for card in list_cards()
        if card.backbone == backbone and not card.pruned
    }


def _teachers() -> dict[str, str]:
    """Who can be asked beside the labels, nobody first."""
    found = {card.name: card.title for card in list_cards() if card.backbone != CASCADE}
    return {"": "nobody, your labels alone"} | found


def _starts(backbone: str, but: str = "") -> dict[str, str]:
    """Where a run can start from, the best first; not from a checkpoint `but` of one's own."""
    own = {
        str(weights_dir() / f"{name}{WEIGHTS}"): f"{title}, as it is here"
        for name, title in _whole(backbone).items()
        if name != but or name == backbone
    }
    return own | {
        "imagenet": "ImageNet weights (downloaded once)",
        "scratch": "nothing (needs thousands of photos)",
    }


def _show_variants(samples: list[Sample], recipe: Recipe | None) -> None:
    st.markdown("### What it will see")
    if recipe is None:
        return
    photos = {short_path(s.path): s for s in samples[:: len(samples) // 200 + 1]}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("Photo", list(photos), width=260)
        st.session_state.setdefault("variants_seed", 0)
        if st.button("Draw again", icon=":material/casino:"):
            st.session_state["variants_seed"] += 1
    with errors_in_words():
        from heritage.training.preview import random_views

        pictures = random_views(
            photos[chosen], recipe.config, count=VARIANTS, seed=st.session_state["variants_seed"]
        )
        st.image(_url(_sheet(pictures)), width="stretch", alt="Nine views of the photo")
        st.caption(
            "Nine random views of this photo, as the network gets them: turned, cropped, blurred "
            "and tinted, so that it learns damage and not your camera."
        )


def _sheet(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures (S, S, 3), three in a row with clear gaps: RGBA (H, W, 4) uint8."""
    side, gap = len(pictures[0]), len(pictures[0]) // 20
    pitch = side + gap
    rows = -(-len(pictures) // 3)
    sheet = np.zeros((rows * pitch - gap, 3 * pitch - gap, 4), np.uint8)
    for index, picture in enumerate(pictures):
        top, left = pitch * (index // 3), pitch * (index % 3)
        sheet[top : top + side, left : left + side, :3] = picture
        sheet[top : top + side, left : left + side, 3] = 255
    return sheet


def _show_doubles(samples: list[Sample]) -> None:
    st.markdown("### Same photo in both classes?")
    key = f"doubles-{hash(tuple((sample.path, sample.label) for sample in samples))}"
    if key not in st.session_state:
        st.caption("Copies and near-copies with opposite labels teach nothing but confusion.")
        if st.button("Look for them", icon=":material/compare:"):
            st.session_state[key] = _doubles(samples)
            st.rerun()
        return
    doubles, unread = st.session_state[key]
    found: list[Double] = [d for d in doubles if _is_there(d.damaged) and _is_there(d.sound)]
    if unread:
        st.warning(
            f"{counted(unread)} could not be read, and training will stop at them. Remove them, or "
            "copy them from the camera again.",
            icon=":material/warning:",
        )
    if st.button("Look again", icon=":material/refresh:"):
        del st.session_state[key]
        _samples.clear()
        st.rerun()
    if not found:
        st.success("No photo is in both classes.", icon=":material/check_circle:")
        return
    st.warning(
        f"{len(found)} {'pair looks' if len(found) == 1 else 'pairs look'} alike across the "
        "classes. Correct the labels, or take the photos out.",
        icon=":material/warning:",
    )
    for double in found[:PAIRS_SHOWN]:
        left, right = st.columns(2)
        for column, path, name in (
            (left, double.damaged, "damaged"),
            (right, double.sound, "sound"),
        ):
            with errors_in_words():
                caption, alt = (
                    f"{name}: {text}" for text in (plain(short_path(path)), short_path(path))
                )
                column.image(_url(_look(path)), width="stretch", caption=caption, alt=alt)
    if len(found) > PAIRS_SHOWN:
        st.caption(f"And {len(found) - PAIRS_SHOWN} more:")
        rows = [
            {"Damaged": short_path(d.damaged), "Sound": short_path(d.sound)}
            for d in found[PAIRS_SHOWN:]
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # its drive has gone
        return False


def _doubles(samples: list[Sample]) -> tuple[list[Double], int]:
    """Photos in both classes, and how many could not be read."""
    from heritage.training.preview import find_doubles

    bar = st.progress(0.0, "Comparing photos …")

    def show(done: int) -> None:
        bar.progress(done / len(samples), f"Comparing photos … {done:,} of {len(samples):,}")

    found, unread = find_doubles(samples, show)
    bar.empty()
    return found, unread


def _url(pixels: np.ndarray) -> str:
    """Pictures travel with the page, as those that Streamlit serves ask nobody who they are."""
    return data_url("image/png", encode_png(pixels))


def _look(path: Path) -> np.ndarray:
    from heritage.photos import open_photo

    return open_photo(path).pixels(short_side_px=LOOK_SIDE_PX)


def _start(recipe: Recipe | None) -> None:
    if recipe is None:
        return
    config = recipe.config
    st.markdown("### Start")
    began: dict[str, Any] = st.session_state.setdefault("training_began", {})
    if began.get("rename") and not st.session_state.get("train_start_now"):
        began["rename"] = False
        st.session_state["train_name"] = ""
    free = _free_name(f"my_{config.backbone}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        typed = st.text_input(
            "Name of the result",
            key="train_name",
            persist_state="session",
            placeholder=free,
            width=320,
        ).strip()
        pressed = st.button(
            "Start training", key="train_start_now", type="primary", icon=":material/play_arrow:"
        )
    if "name" in began and any(job.name == began["name"] for job in list_jobs()):
        st.caption(
            f"{plain(began['name'])} has begun and is shown at the top, under [Runs](#runs)."
        )
    if not pressed:
        return
    with errors_in_words():
        data = str(_allowed(st.session_state["training_data"].strip(' "')))
        # It takes some seconds, in which people press again.
        again = began.get("what") == (recipe, data) and typed in ("", began["typed"])
        if again and time.monotonic() - began["when"] < AGAIN_S:
            st.rerun()
        name = typed or free
        with st.spinner("Starting …"), _noted(name, "training begun"):
            job = start(
                config,
                data,
                name,
                stage_one=recipe.stage_one,
                stage_two_init=recipe.stage_two_init,
            )
            # In place: at the next call of Streamlit a press that waits breaks this off.
            began.update(what=(recipe, data), typed=typed, name=job.name, rename=True)
            began["when"] = time.monotonic()
        st.toast(f"Training of {job.name} has begun", icon=":material/model_training:")
        st.rerun()


def _free_name(wish: str) -> str:
    runs: set[str] = set()
    with suppress(OSError):  # those of the shell too
        runs = {folder.name for folder in runs_dir().iterdir()}
    number, name = 1, wish
    while name in runs or is_taken(name, weights_dir()):
        number += 1
        name = f"{wish}_{number}"
    return name


def _show_runs() -> None:
    st.markdown("## Runs")
    running = any(job.status() == "running" for job in list_jobs())
    st.fragment(_runs, run_every=SHOWN_EVERY_S if running else None)()


@contextmanager
def _noted(name: str, what: str) -> Iterator[None]:
    """Leaves a line of who does what to a training; a fragment runs on when a role was taken away.

    Raises:
        HeritageError: They may not, or it cannot be written.
    """
    visitor().require(Role.ADMIN, what)
    with noted(surveys_dir(), visitor(), what, name=name):
        yield


def _runs() -> None:
    if not may(Role.ADMIN):
        st.rerun()
    jobs = list_jobs()
    statuses = {job.name: job.status() for job in jobs}
    for job in jobs:
        with st.container(border=True, key=f"run-{job.name}"):
            _show_run(job, statuses[job.name])
    before = st.session_state.get("run_statuses")
    st.session_state["run_statuses"] = statuses
    if before is not None and before != statuses:
        st.rerun()  # the page shows finished checkpoints and polls only while something runs


def _show_run(job: Job, status: Status) -> None:
    progress = job.progress()
    words = {
        "running": ":blue-badge[:material/model_training: Running]",
        "stopped": ":gray-badge[:material/pause: Stopped]",
        "failed": ":red-badge[:material/error: Failed]",
        "done": ":green-badge[:material/check_circle: Done]",
    }
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**{plain(job.name)}** &nbsp; {words[status]} &nbsp; "
            f"{get_backbone(job.config.backbone).title}",
            width="stretch",
        )
        _controls(job, status)
    if status == "running":
        st.progress(progress.share, _where(progress))
    elif status == "stopped":
        st.caption(_epochs_done(progress))
    elif status == "failed":
        st.error(f"{plain(job.error)}. See the log, or resume.", icon=":material/error:")
        _show_log(job)
    if progress.history:
        for column, figure in zip(st.columns(2), learning_curves(progress.history), strict=True):
            column.plotly_chart(
                figure, config=PLAIN, key=f"{job.name}-{figure.layout.title.text[:4]}"
            )
    if status == "done":
        _show_result(job)
    if photo_root() is None:  # visitors of a server need not know its folders
        with st.expander("The same in a shell"):
            st.code(job.command, language="bash", wrap_lines=True)


def _show_log(job: Job) -> None:
    """The end of what the run wrote, with the paths that are in it."""
    if photo_root() is not None:  # visitors of a server need not know its folders
        st.caption(f"The log is {LOG} in the folder of the run, on the server.")
        return
    with st.expander("Log"):
        try:
            text = (job.folder / LOG).read_bytes()[-LOG_BYTES:].decode(errors="replace")
        except OSError as error:
            st.caption(f"There is none to read ({plain(error.strerror or '')}).")
            return
        lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
        st.code("\n".join(lines[-LOG_LINES:]), language=None, wrap_lines=True)


def _controls(job: Job, status: Status) -> None:
    if status == "running":
        if st.button("Stop", key=f"stop-{job.name}", icon=":material/stop:"):
            with errors_in_words():
                with _noted(job.name, "training stopped"):
                    job.stop()
                st.toast("Stopping; finished epochs are kept")
        return
    if status in ("stopped", "failed") and st.button(
        "Resume", key=f"resume-{job.name}", icon=":material/play_arrow:"
    ):
        with errors_in_words():
            with _noted(job.name, "training resumed"):
                job.launch()
            st.rerun()
    made = (Path(job.out) / f"{job.name}.json").exists()
    if (
        status == "done"
        and made
        and st.button(
            "Inspect with it", key=f"use-{job.name}", icon=":material/search:", type="primary"
        )
    ):
        st.session_state["checkpoint"] = job.name
        st.switch_page("pages/1_Inspect.py")
    away = "Clear" if status == "done" else "Discard"
    # Asked about, as it comes to stand where Stop was.
    with st.popover(away, icon=":material/delete:", width="content"):
        st.markdown(
            "Its curves go; the checkpoint stays."
            if status == "done"
            else "What it has learned so far is forgotten."
        )
        if st.button(f"{away} {job.name}", key=f"discard-{job.name}", icon=":material/delete:"):
            with errors_in_words():
                with _noted(job.name, "training discarded"):
                    job.discard()
                began = st.session_state.get("training_began", {})
                if began.get("name") == job.name:
                    began.clear()
                st.rerun()


def _where(progress: Progress) -> str:
    if progress.phase == "scoring":
        return "Scoring it on photos that it has not learned from …"
    if progress.phase in (STARTING, "reading"):
        if not progress.photos:
            return "Starting …"
        return f"Reading photos … {progress.photos:,} of {progress.photos_in_all:,}"
    left = progress.seconds_left
    told = f" · about {duration_text(left)} left" if left is not None else ""
    return (
        f"Epoch {progress.epoch} of {progress.epochs}, batch {progress.step} of "
        f"{progress.steps}{told}"
    )


def _epochs_done(progress: Progress) -> str:
    done = len(progress.history)
    return f"{counted(done, 'epoch')} done. It goes on from there." if done else "No epoch is done."


def _show_result(job: Job) -> None:
    path = Path(job.out) / f"{job.name}.json"
    if not path.exists():
        st.caption("Its checkpoint has been removed since.")
        return
    card = None
    with errors_in_words():
        card = read_card(path)
    if card is None:
        return
    figures = card.metrics.get("validation", {})
    held_out = {split: found for split, found in card.metrics.items() if split != "validation"}
    aside = "kept aside" if card.data.get("without_building") else "of buildings kept aside"
    told, matrix = st.columns(2)
    with told:
        st.markdown(
            f"On {figures.get('n', 0)} photos {aside}: balanced accuracy "
            f"**{interval_text(figures, 'balanced_accuracy')}**, AUROC "
            f"**{interval_text(figures, 'auroc')}**."
        )
        st.caption(
            "In brackets, the 95 % interval. The epoch to keep was chosen on these same photos, "
            "which flatters a little."
            + ("" if held_out else " A manifest with a test split gives a sterner figure.")
        )
        for split, scored in held_out.items():
            st.markdown(
                f"{SPLIT_TITLES.get(split, plain(split))}, {counted(scored.get('n', 0))}: balanced "
                f"accuracy **{interval_text(scored, 'balanced_accuracy')}**, AUROC "
                f"**{interval_text(scored, 'auroc')}**."
            )
    if "confusion" in figures:
        matrix.plotly_chart(
            confusion_chart(figures["confusion"]), config=PLAIN, key=f"{job.name}-confusion"
        )
