"""A survey as a PDF to print and file: what to look at first, and how far to trust it."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import cast

import matplotlib
from fpdf import FPDF, ViewerPreferences
from fpdf.bidi import BidiParagraph
from fpdf.errors import FPDFException
from fpdf.fonts import TTFFont
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import MaxNLocator

from heritage.bands import BANDS, WATCH, Band, BandThresholds
from heritage.cards import ModelCard
from heritage.figures import FIGURE_TITLES, SPLIT_TITLES, counted, interval_text, percent_text
from heritage.priority import PriorityRow, once
from heritage.spreadsheets import (
    ACCENT,
    INK,
    LINE,
    MEANING,
    MOST_PICTURED,
    MUTED,
    STONE,
    TONES,
    SurveyFacts,
    agreement_lines,
    band_counts,
    band_range,
    by_building,
    moment_text,
    urgent_rows,
    utc_text,
)
from heritage.words import nothing_hot

PAPER = "#F6F4EF"
LEFT, TOP, BOTTOM, WIDTH = 18.0, 18.0, 275.0, 174.0  # mm on A4
LINE_MM_PER_PT = 0.475
LISTED = 200
BUILDINGS_SHOWN = 10
FIGURES_SHOWN = ("balanced_accuracy", "auroc", "recall_damaged", "recall_sound", "ece")
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
EXPERT = "An expert decides."
UNKNOWN_GLYPH = "□"
MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")
PAGES = "\ue000" * 4  # stands for the number of pages; `shown` leaves it in no other text


def priority_pdf(
    rows: Sequence[PriorityRow],
    survey: SurveyFacts,
    card: ModelCard,
    *,
    overlay: Callable[[PriorityRow], bytes | None],
    most: int = MOST_PICTURED,
) -> bytes:
    """The report of a survey as an A4 PDF.

    A summary with charts; the photos to look at first, each with its picture; a list of the
    others; what the model is and cannot see. Names and notes are shown as they are, never as
    markup; where they are too long they end in "…", and signs without a glyph are boxes.

    Args:
        rows: The table as `heritage.priority.ranked` gives it.
        survey: Facts about the survey.
        card: Card of the checkpoint that answered.
        overlay: Gives the picture of a row under its heat as JPEG or PNG bytes, None where there
            is none. It is asked for the photos to look at first only, one at a time.
        most: How many photos get a picture; those left out are in the list.
    """
    first = urgent_rows(rows)[:most]
    pictured = {id(row) for row in first}
    pdf = _Report(survey)
    _summary(pdf, rows, survey)
    if first:
        _look_first(pdf, first, len(urgent_rows(rows)), overlay, survey.absolute_heat)
    _list(pdf, [row for row in rows if id(row) not in pictured], bool(first))
    _about(pdf, card)
    return bytes(pdf.output())


class _Report(FPDF):
    """A4 pages on which everything is put at its place, and text is only ever text."""

    def __init__(self, survey: SurveyFacts) -> None:
        super().__init__(format="A4")
        self.set_auto_page_break(False)
        self.c_margin = 0
        self.add_font("Sans", "", FONTS / "DejaVuSans.ttf")
        self.add_font("Sans", "B", FONTS / "DejaVuSans-Bold.ttf")
        self.add_font("Serif", "", FONTS / "DejaVuSerif.ttf")
        self.set_fallback_fonts(["Sans"])
        fonts = [
            font
            for font in self.fonts.values()
            if isinstance(font, TTFFont) and "sans" in font.fontkey
        ]
        self.known = set.intersection(*(set(font.cmap) for font in fonts))
        self.alias_nb_pages(PAGES)
        self.survey = survey
        self.set_title(self.shown(survey.name))
        self.set_subject("Photos by how probably damage shows in them")
        self.set_creator("Heritage")
        self.set_lang("en-GB")
        self.viewer_preferences = ViewerPreferences(display_doc_title=True)
        self.add_page()

    def header(self) -> None:
        self.bar(0, 0, self.w, self.h, PAPER)

    def footer(self) -> None:
        self.bar(LEFT, 282, WIDTH, 0.2, LINE)
        words = f"Report of {moment_text(self.survey.made_at)[:10]} (UTC) · {self.survey.name}"
        self.say(words, LEFT, 284, 140, size=7, colour=MUTED)
        self.set_xy(LEFT + WIDTH - 19, 284)
        self.cell(19, 3.3, f"Page {self.page_no()} of {PAGES}")

    def shown(self, text: str) -> str:
        """`text` with only what the font can show: no controls, and a box for each other sign."""
        kept: list[str] = []
        for sign in unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\t", " ")):
            if unicodedata.combining(sign) and all(map(unicodedata.combining, kept[-2:])):
                continue  # a tower of accents would cover other lines
            if sign == "\n" or (sign.isprintable() and ord(sign) in self.known):
                kept.append(sign)
            elif unicodedata.category(sign) not in ("Cf", "Mn", "Me"):
                kept.append(" " if sign.isspace() else UNKNOWN_GLYPH)
        return "".join(kept)

    def say(
        self,
        text: str,
        x: float,
        y: float,
        width: float,
        *,
        size: float = 8.5,
        bold: bool = False,
        serif: bool = False,
        colour: str = INK,
        align: str = "L",
        lines: int = 1,
    ) -> float:
        """Writes `text` on at most `lines` lines from (x, y) in mm; returns the y below it."""
        self.set_font("Serif" if serif else "Sans", "B" if bold else "", size)
        self.set_text_color(colour)
        for line in self.lines(text, width, lines):
            self.set_xy(x, y)
            self.cell(width, size * LINE_MM_PER_PT, _as_read(line), align=align)
            y += size * LINE_MM_PER_PT
        return y

    def lines(self, text: str, width: float, most: int) -> list[str]:
        """`text` broken into at most `most` lines in the current font; "…" where it goes on."""
        shown = self.shown(text[: 300 * most]).strip()
        if most == 1:
            shown = shown.replace("\n", " ")
        if "\n" not in shown and self.get_string_width(shown) <= width:
            return [shown]
        wrapped = self.multi_cell(width, text=shown, align="L", dry_run=True, output="LINES")
        found = cast(list[str], wrapped)
        if len(found) > most:
            last = found[most - 1]
            while last and self.get_string_width(f"{last}…") > width:
                last = last[:-1]
            found[most - 1 :] = [f"{last.rstrip()}…"]
        return found

    def name(self, text: str, width: float, size: float, *, bold: bool = False) -> str:
        """`text` cut at its front to fit on one line: the end of a path tells photos apart."""
        self.set_font("Sans", "B" if bold else "", size)
        shown = self.shown(text[-300:]).replace("\n", " ").strip() or "–"
        if self.get_string_width(shown) <= width:
            return shown
        while shown and self.get_string_width(f"…{shown}") > width:
            shown = shown[1:]
        return f"…{shown}"

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self.set_fill_color(colour)
        self.rect(x, y, width, height, style="F")

    def heading(self, text: str, needed: float) -> None:
        """Begins a part with `needed` mm at least, on a new page where they are not left."""
        if self.y + 12 + needed > BOTTOM:
            self.next_page()
        else:
            self.set_y(self.y + 12)
        self.start_section(text)
        self.bar(LEFT, self.y, 10, 0.9, ACCENT)
        self.set_y(self.say(text, LEFT, self.y + 3, WIDTH, size=15, serif=True) + 2)

    def next_page(self) -> None:
        self.add_page()
        self.set_y(TOP)

    def picture(self, data: bytes | None, x: float, y: float, w: float, h: float, alt: str) -> None:
        """The picture as large as fits into a stone-coloured box; words where there is none."""
        self.bar(x, y, w, h, STONE)
        with suppress(OSError, FPDFException):  # what is no picture is none to show
            if data:
                self.image(io.BytesIO(data), x, y, w, h, keep_aspect_ratio=True, alt_text=alt)
                return
        self.say("No picture", x, y + h / 2 - 2, w, colour=MUTED, align="C")


def _as_read(line: str) -> str:
    """`line` with its signs from left to right as they are to stand on the page."""
    if not any(unicodedata.bidirectional(sign) in ("R", "AL") for sign in line):
        return line
    return "".join(
        sign.character.translate(MIRRORED) if sign.embedding_level % 2 else sign.character
        for sign in BidiParagraph(line).get_reordered_characters()
    )


def _joined(*parts: str) -> str:
    return " · ".join(filter(None, parts))


def _summary(pdf: _Report, rows: Sequence[PriorityRow], survey: SurveyFacts) -> None:
    pdf.start_section("Summary")
    pdf.bar(LEFT, TOP, 10, 0.9, ACCENT)
    y = pdf.say("Survey report", LEFT, TOP + 3, WIDTH, colour=ACCENT, bold=True) + 2
    y = pdf.say(survey.name, LEFT, y, WIDTH, size=22, serif=True, lines=2) + 1
    facts = _joined(survey.site, moment_text(survey.date or ""), survey.checkpoint_title)
    y = pdf.say(facts, LEFT, y, WIDTH, size=10, colour=MUTED) + 4
    answered = sum(row.damage_percent is not None for row in rows)
    failed = sum(bool(row.error) for row in rows)
    buildings = len({row.building for row in rows} - {""})
    of = f" of {counted(buildings, 'building')}" if buildings else ""
    words = f"{counted(len(rows))}{of}, {answered:,} inspected."
    if failed:
        words += f" {counted(failed)} could not be read."
    copies = len(rows) - len(once(rows))
    if copies:
        words += f" Below, copies count once: {copies:,} fewer."
    y = pdf.say(words, LEFT, y, WIDTH, size=10, lines=2) + 4

    gap = 4.0
    width = (WIDTH - 3 * gap) / 4
    for index, (name, count) in enumerate(band_counts(rows).items()):
        _tile(pdf, BANDS[name], count, survey.thresholds, LEFT + index * (width + gap), y, width)
    y += TILE_MM + 5
    for line in (MEANING[0], MEANING[-1]):
        y = pdf.say(line, LEFT, y, WIDTH, colour=MUTED, lines=2)
    y += 5
    if answered:
        _charts(pdf, rows, survey.thresholds, y)
        y += 75
    elif rows:
        y = pdf.say("No photo has been inspected; the list says why.", LEFT, y, WIDTH, size=10)
    else:
        y = pdf.say("The survey has no photos yet: add some and inspect them.", LEFT, y, WIDTH)
    agreed = agreement_lines(rows, survey)
    if agreed:
        y = pdf.say("Verdicts and the model", LEFT, y, WIDTH, size=9.5, bold=True) + 1
        for line in agreed:
            y = pdf.say(line, LEFT, y, WIDTH, lines=2)
    pdf.set_y(y)


def _tile(
    pdf: _Report,
    band: Band,
    count: int,
    thresholds: BandThresholds,
    x: float,
    y: float,
    width: float,
) -> None:
    tone = TONES[band.colour]
    pdf.bar(x, y, width, TILE_MM, tone.fill)
    pdf.bar(x, y, 1, TILE_MM, tone.solid)
    x, width = x + 4, width - 7
    words = f"{band.icon} {band.name}"
    pdf.say(words, x, y + 3, width, size=10, bold=True, colour=tone.ink)
    pdf.say(f"{count:,}", x, y + 8, width, size=22)
    pdf.say(band_range(band, thresholds), x, y + 19, width, size=7.5, bold=True, colour=MUTED)
    pdf.say(band.meaning, x, y + 23.5, width, size=7, colour=MUTED, lines=3)


TILE_MM = 36
_CHARTS = Lock()  # Matplotlib promises nothing to threads
CHART_INCHES = (84 / 25.4, 64 / 25.4)


def _charts(
    pdf: _Report, rows: Sequence[PriorityRow], thresholds: BandThresholds, y: float
) -> None:
    buildings = by_building(rows)
    most = list(buildings.items())[:BUILDINGS_SHOWN]
    title = "Photos by building and band"
    if len(buildings) > len(most):
        title = f"{len(most)} of {len(buildings)} buildings, most Urgent first"
    groups = [(pdf.name(name, 32, 8), band_counts(found)) for name, found in most]
    with _CHARTS:
        charts = {
            "Photos by damage %": _damage_chart(rows, thresholds),
            title: _building_chart(groups),
        }
    half = (WIDTH - 6) / 2
    for x, (title, chart) in zip((LEFT, LEFT + half + 6), charts.items(), strict=True):
        below = pdf.say(title, x, y, half, size=9, bold=True)
        pdf.image(io.BytesIO(chart), x, below + 1, half, alt_text=title)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(CHART_INCHES, dpi=220, facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot(facecolor=PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(colors=MUTED, length=0, labelfontfamily="DejaVu Sans", labelsize=7)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _font(size: float, weight: str = "") -> FontProperties:
    return FontProperties(fname=FONTS / f"DejaVuSans{weight}.ttf", size=size)


def _damage_chart(rows: Sequence[PriorityRow], thresholds: BandThresholds) -> bytes:
    """How many photos have which damage %, in steps of 5, as PNG."""
    figure, axes = _axes()
    percents: dict[str, list[float]] = {name: [] for name in BANDS}
    for row in once(rows):
        if row.damage_percent is not None:
            percents[row.band].append(row.damage_percent)
    axes.hist(
        list(percents.values()),
        bins=range(0, 101, 5),
        stacked=True,
        color=[TONES[band.colour].solid for band in BANDS.values()],
        rwidth=0.86,
    )
    edges = (thresholds.watch_percent, thresholds.high_percent, thresholds.urgent_percent)
    for band, low, high in zip(reversed(BANDS.values()), (0, *edges), (*edges, 100), strict=True):
        if high - low >= 5:
            axes.text(
                (low + high) / 2,
                1.01,
                band.icon,
                transform=axes.get_xaxis_transform(),
                color=TONES[band.colour].solid,
                fontproperties=_font(8, "-Bold"),
                ha="center",
                va="bottom",
            )
        if 0 < low < 100:
            axes.axvline(low, color=LINE, linewidth=0.8, zorder=0)
    axes.set_xlim(0, 100)
    axes.set_xlabel("Damage %", color=MUTED, fontproperties=_font(7))
    axes.set_ylabel("Photos", color=MUTED, fontproperties=_font(7))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return _png(figure)


def _building_chart(groups: Sequence[tuple[str, dict[str, int]]]) -> bytes:
    """How many photos of each building are in which band, as PNG."""
    figure, axes = _axes()
    longest = max(1, *(sum(counts.values()) for _, counts in groups))
    for place, (_, counts) in enumerate(groups):
        left = 0
        for band in BANDS.values():
            count = counts[band.name]
            axes.barh(
                place, count, left=left, color=TONES[band.colour].solid, height=0.62, linewidth=0
            )
            if count > longest * 0.04:
                axes.text(
                    left + count / 2,
                    place,
                    f"{band.icon} {count}" if count > longest * 0.13 else f"{count}",
                    color=INK if band is WATCH else "white",  # white is hard to read on yellow
                    fontproperties=_font(6, "-Bold"),
                    ha="center",
                    va="center_baseline",
                )
            left += count
        axes.text(
            left + longest * 0.015,
            place,
            f"{left:,}",
            color=MUTED,
            fontproperties=_font(7),
            va="center_baseline",
        )
    axes.set_yticks(
        range(len(groups)),
        [name for name, _ in groups],
        fontproperties=_font(7),
        parse_math=False,
    )
    axes.set_ylim(max(len(groups), 4) - 0.5, -0.5)
    axes.set_xlim(0, longest * 1.12)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    return _png(figure)


BLOCK_MM, PICTURE_MM = 80.0, (96.0, 72.0)


def _look_first(
    pdf: _Report,
    rows: Sequence[PriorityRow],
    total: int,
    overlay: Callable[[PriorityRow], bytes | None],
    absolute_heat: bool,
) -> None:
    pdf.heading("Look at these first", 250)
    scale = "mean the same in every photo" if absolute_heat else "do not compare between photos"
    words = (
        f"{counted(total)}: Urgent, or found damaged by an expert; most urgent first. The colours "
        f"show where in the photo the model sees damage; they {scale}."
    )
    if total > len(rows):
        words += (
            f" The first {len(rows)} are shown; the other {total - len(rows)} are in the list, as "
            "far as it goes."
        )
    pdf.set_y(pdf.say(words, LEFT, pdf.y, WIDTH, colour=MUTED, lines=3) + 3)
    for row in rows:
        if pdf.y + PICTURE_MM[1] > BOTTOM:
            pdf.next_page()
        top = pdf.y
        _block(pdf, row, overlay(row), top)
        pdf.set_y(top + BLOCK_MM)


def _block(pdf: _Report, row: PriorityRow, picture: bytes | None, top: float) -> None:
    pdf.picture(picture, LEFT, top, *PICTURE_MM, alt=pdf.shown(f"Heat map over {row.photo}"))
    x = LEFT + PICTURE_MM[0] + 6
    width = LEFT + WIDTH - x
    name = pdf.name(row.photo, width - 9, 9.5, bold=True)
    pdf.say(f"{row.rank}", x, top, 9, size=9.5, bold=True, colour=ACCENT)
    y = pdf.say(name, x + 9, top, width - 9, size=9.5, bold=True)
    place = _joined(row.building, moment_text(row.taken_at or ""))
    y = pdf.say(place, x + 9, y, width - 9, size=7.5, colour=MUTED) + 2

    if row.verdict or row.note:
        said = f"Verdict: {row.verdict}" if row.verdict else "Note"
        y = pdf.say(said, x, y, width, size=10, bold=True, colour=ACCENT)
        who = _joined(row.verdict_by, utc_text(row.verdict_at or ""))
        y = pdf.say(who, x, y, width, size=7.5, colour=MUTED) if who else y
        y = pdf.say(row.note, x, y + 0.5, width, size=8, lines=6) if row.note else y
        pdf.bar(x, y + 1.5, width, 0.2, LINE)
        y += 3
    if row.damage_percent is not None:
        band = BANDS[row.band]
        tone = TONES[band.colour]
        pdf.say(percent_text(row.damage_percent), x, y, width - 26, size=18)
        pdf.bar(x + width - 24, y + 1.5, 24, 6, tone.fill)
        words = f"{band.icon} {band.name}"
        pdf.say(words, x + width - 24, y + 2.4, 24, bold=True, colour=tone.ink, align="C")
        y = pdf.say("probability that damage shows", x, y + 9, width, size=7.5, colour=MUTED) + 1
    if row.affected_percent is not None:
        words = f"Affected area {row.affected_percent:.1f} % of the photo"
        words += f", {counted(len(row.regions), 'hot area')}" if row.regions else ""
        y = pdf.say(words, x, y, width, size=8) + 1
    remarks = [
        *([row.error] if row.error else []),
        *([nothing_hot(row.heat_map)] if row.band and not row.evidence else []),
        *(["The model is unsure: look yourself."] if row.unsure else []),
        *([f"Looks like others in group {row.similar_group}."] if row.similar_group else []),
        *row.warnings,
    ]
    for remark in remarks:
        left = int((top + PICTURE_MM[1] - y) / (7.5 * LINE_MM_PER_PT))
        if left > 0:
            y = pdf.say(f"– {remark}", x, y, width, size=7.5, colour=MUTED, lines=min(2, left))


# Left edge and width in mm, and alignment, of each column of the list.
LIST_COLUMNS = {
    "Rank": (0.0, 11.0, "R"),
    "Photo": (14.0, 66.0, "L"),
    "Building": (83.0, 34.0, "L"),
    "Damage %": (117.0, 18.0, "R"),
    "Band": (139.0, 18.0, "L"),
    "Verdict": (158.0, 16.0, "L"),
}
ROW_MM = 5.2


def _list(pdf: _Report, rows: Sequence[PriorityRow], others: bool) -> None:
    """A line per photo, `LISTED` at most."""
    if not rows:
        return
    pdf.heading("All other photos" if others else "All photos", 40)
    words = f"{counted(len(rows))}, most urgent first."
    if len(rows) > LISTED:
        words += f" The first {LISTED} are listed; the spreadsheet holds them all."
    pdf.set_y(pdf.say(words, LEFT, pdf.y, WIDTH, colour=MUTED) + 3)
    _list_header(pdf)
    for row in rows[:LISTED]:
        if pdf.y + 3 * ROW_MM > BOTTOM:
            pdf.next_page()
            _list_header(pdf)
        _list_row(pdf, row)


def _list_header(pdf: _Report) -> None:
    for word, (x, width, align) in LIST_COLUMNS.items():
        pdf.say(word, LEFT + x, pdf.y, width, size=7.5, colour=MUTED, align=align)
    pdf.bar(LEFT, pdf.y + 4.4, WIDTH, 0.2, LINE)
    pdf.set_y(pdf.y + 5.4)


def _list_row(pdf: _Report, row: PriorityRow) -> None:
    y = pdf.y
    cells = {
        "Rank": f"{row.rank}",
        "Photo": pdf.name(row.photo, LIST_COLUMNS["Photo"][1], 8),
        "Building": row.building,
        "Verdict": row.verdict or ("copy" if row.duplicate_of else ""),
    }
    if row.damage_percent is not None:
        cells["Damage %"] = percent_text(row.damage_percent)
    if row.band:
        cells["Band"] = f"{BANDS[row.band].icon} {row.band}"
    for word, text in cells.items():
        x, width, align = LIST_COLUMNS[word]
        colour = TONES[BANDS[row.band].colour].ink if word == "Band" else INK
        pdf.say(text, LEFT + x, y, width, size=8, colour=colour, align=align)
    y += ROW_MM
    if not row.band:
        x = LIST_COLUMNS["Photo"][0]
        reason = row.error or "Not inspected yet."
        y = pdf.say(reason, LEFT + x, y - 1, WIDTH - x, size=7.5, colour=MUTED, lines=2) + 1
    pdf.set_y(y)


def _about(pdf: _Report, card: ModelCard) -> None:
    pdf.heading("What the model is and what it cannot see", 130)
    counts = card.data.get("photos", {}).get("train", {})
    sources = ", ".join(card.data.get("sources", []))
    words = f"{card.title} is a neural network"
    if counts:
        words += f" that learned from {counted(sum(counts.values()))}"
        words += " (" + ", ".join(f"{n:,} {label}" for label, n in counts.items()) + ")"
        words += f" of these sources: {sources}" if sources else ""
    y = pdf.say(f"{words}.", LEFT, pdf.y, WIDTH, lines=6) + 3
    y = _figures(pdf, card, y)
    low, high = card.unsure
    limits = [line for line in card.limits if line != EXPERT]
    if low < high:
        limits.append(
            f"Answers between {100 * low:.0f} % and {100 * high:.0f} % were too often wrong on "
            "validation to go by them."
        )
    for line in limits or MEANING[:-1]:
        if y + 40 > BOTTOM:
            pdf.next_page()
            y = TOP
        pdf.bar(LEFT, y + 1.7, 1.2, 1.2, ACCENT)
        y = pdf.say(line, LEFT + 4, y, WIDTH - 4, size=9.5, lines=3) + 1.5
    y = pdf.say(EXPERT, LEFT, y + 2, WIDTH, size=13, serif=True, colour=ACCENT) + 5
    words = f"Checkpoint {card.name}, SHA-256 {card.sha256 or '–'}. Licence: {card.licence or '–'}."
    pdf.say(words, LEFT, y, WIDTH, size=7, colour=MUTED, lines=4)


def _figures(pdf: _Report, card: ModelCard, y: float) -> float:
    """The figures on photos the model never saw, with their intervals; returns the y below."""
    splits = [split for split in SPLIT_TITLES if split in card.metrics]
    if not splits:
        return pdf.say("Its card holds no figures.", LEFT, y, WIDTH) + 4
    width = 28.2
    x0 = LEFT + WIDTH - width * len(FIGURES_SHOWN)
    pdf.say("Photos", x0 - 10, y, 10, size=6.5, colour=MUTED, align="R")
    for index, name in enumerate(FIGURES_SHOWN):
        words = FIGURE_TITLES[name]
        pdf.say(words, x0 + index * width, y, width, size=6.5, colour=MUTED, align="R")
    y += 4.5
    for split in splits:
        figures = card.metrics[split]
        pdf.bar(LEFT, y, WIDTH, 0.2, LINE)
        pdf.say(SPLIT_TITLES[split], LEFT, y + 1.2, 24, size=8)
        pdf.say(f"{figures['n']:,}", x0 - 10, y + 1.2, 10, size=8, align="R")
        for index, name in enumerate(FIGURES_SHOWN):
            value, _, interval = interval_text(figures, name).partition(" [")
            x = x0 + index * width
            below = pdf.say(value, x, y + 1.2, width, size=8, align="R")
            pdf.say(f"[{interval}" if interval else "", x, below, width, size=7, align="R")
        y += 9
    words = (
        "In brackets: 95 % intervals. Known sources: photos it never saw, of sources it learned "
        "from. Other sources: photos of sources it knows nothing of; expect these figures of your "
        "own photos."
    )
    return pdf.say(words, LEFT, y + 1, WIDTH, size=7.5, colour=MUTED, lines=3) + 5
