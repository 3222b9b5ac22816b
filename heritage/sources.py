"""Where the photos of a triage come from: folders, ZIPs and single files, listed undecoded.

Listing opens no photo, and its order is the same every time: by folder and name, numbers as
numbers. What cannot be read becomes a `Source` that says why, so that one bad file is one row.
Names are only ever labels; with a `root`, nothing outside it is listed or read.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import struct
import threading
import unicodedata
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from heritage.errors import PhotoError
from heritage.photos import SUFFIXES, Limits
from heritage.words import NO_ROOM

_MAX_ENTRIES = 20_000
_MAX_TOTAL_BYTES = 20 * 2**30
_MAX_DIRECTORY_BYTES = 16 * 2**20  # of a ZIP's table of contents, 800 bytes an entry
_MAX_RATIO = 200  # photos shrink tenfold at best, scanned drawings a hundredfold
_ARCHIVES = ("zip", "rar", "7z", "tar", "tgz", "gz")
_LISTED = SUFFIXES + _ARCHIVES
JOURNAL_END = ".unfinished"  # of the folder that a triage in the shell keeps beside its table
_SYSTEM_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "#recycle", "system volume information")

# Reason and advice, as they stand in `Source.error`.
_ARCHIVE = "this is an archive within the photos; unpack it, or choose it on its own"
_CHANGED = "the ZIP is no longer the one that was listed; choose it again"
_DAMAGED = "the photo is damaged in the ZIP; make the ZIP again, or choose the photo itself"
_EMPTY = "the file is empty; copy it from the camera again"
_LINK = "this is a link, not a photo; put the photo itself into the ZIP"
_LOCKED = "it is locked with a password; unpack the ZIP and choose the folder"
_LOST_LINK = "this link leads nowhere; put the photo itself there"
_MEMORY = f"{NO_ROOM}; save a smaller copy and use that"
_METHOD = "it is packed in an unusual way; unpack the ZIP and choose the folder"
_NO_FILE = "there is no such file or folder; check the path"
_NO_FOLDER = "this is a file, not a folder; choose the folder it lies in"
_NO_PATH = "this path cannot be read; check it"
_NO_ZIP = "this is no ZIP archive; choose a ZIP, a folder or photos"
_OUTSIDE = "it is outside the photos of this server; name one of those"
_RATIO = "it would unpack to hundreds of times its size; choose the photo itself"
_SPECIAL = "this is not a regular file; choose a photo"
_TOO_MANY = f"the ZIP has more than {_MAX_ENTRIES:,} entries; split it, or choose the folder"
_TOO_MUCH = f"its photos are more than {_MAX_TOTAL_BYTES >> 30} GB; split it, or choose the folder"
_TORN_ZIP = "the ZIP ends early or is damaged; copy or download it again"


@dataclass(frozen=True)
class Source:
    """One photo to be read, or why it cannot be.

    Attributes:
        photo: Label for people, unique in its listing: the path below the place it was found, with
            forward slashes, printable, at most 300 characters; never a path to write to.
        building: Name of the folder it lies in; the ZIP's, without suffix, where there is none.
        path: Absolute path of the file, or of the ZIP it is in.
        member: Place in the ZIP's table of contents, from 0; None outside of ZIPs.
        error: Reason and advice where it is known already that it cannot be read, or empty.
    """

    photo: str
    building: str
    path: str
    member: int | None = None
    error: str = ""


@dataclass(frozen=True)
class Listing:
    """The photos of one or several places.

    Attributes:
        sources: One per photo, in natural order of folder and name.
        left_out: How many files are no photos or hidden; a hidden folder counts as one.
    """

    sources: tuple[Source, ...]
    left_out: int


def list_folder(folder: Path, *, root: Path | None = None) -> Listing:
    """Lists the photos in a folder and all folders below it.

    Links are followed, each folder is visited once. Subfolders that cannot be opened, links that
    lead nowhere or out of `root`, special files and archives become sources with an error. Folders
    ending in `.unfinished` are left out: the pictures in them are what a triage keeps of photos.

    Args:
        folder: Where to look.
        root: The only folder that may be looked into, links included.

    Raises:
        PhotoError: There is no such folder, it cannot be opened, or it is outside of `root`.
    """
    return _listing(*_walk(folder, root))


def list_zip(
    path: Path, name: str | None = None, *, root: Path | None = None, limits: Limits = Limits()
) -> Listing:
    """Lists the photos in a ZIP by its table of contents; nothing is unpacked.

    Args:
        path: The ZIP.
        name: What the user calls it; by default the name of the file.
        root: The only folder it may lie in, links included.
        limits: Caps the photos' unpacked size.

    Raises:
        PhotoError: There is no such file, it is no ZIP, it ends early, or holds too much.
    """
    return _listing(*_unzip(path, name or path.name, root, limits))


def list_files(
    paths: Sequence[Path], *, root: Path | None = None, limits: Limits = Limits()
) -> Listing:
    """Lists what was named one by one: photos whatever their suffix, ZIPs and folders.

    What cannot be listed is a source with an error. What is named twice is listed once. Where
    several things are named, the labels begin with the names of the folders and ZIPs.

    Args:
        paths: Photos, ZIPs (told by their suffix) and folders.
        root: The only folder that may be looked into, links included.
        limits: Caps the unpacked size of photos in ZIPs.
    """
    sources: list[Source] = []
    left_out = 0
    unique = dict.fromkeys(paths)
    for path in unique:
        found, other = [_alone(path)], 0
        place = _name(path) if len(unique) > 1 else ""
        try:
            if Path(_checked(str(path), _name(path), root, folder_too=True)).is_dir():
                found, other = _walk(path, root, place)
            elif _suffix(path.name) == "zip":
                found, other = _unzip(path, path.name, root, limits, Path(place).stem)
        except PhotoError as exc:
            found = [_alone(path, _told(exc))]
        sources += found
        left_out += other
    return _listing({(s.path, s.member): s for s in sources}.values(), left_out)


def list_names(names: Iterable[str], folder: str) -> Listing:
    """Lists the photos among files that another storage holds, by the rules of `list_folder`.

    Args:
        names: Paths below `folder`, with forward slashes.
        folder: What the folder is called; `Source.path` is the path below it.
    """
    sources: list[Source] = []
    left_out: set[str] = set()
    for name in names:
        parts = name.split("/")
        hidden = next((i for i, part in enumerate(parts, 1) if _hidden(part)), 0)
        suffix = _suffix(parts[-1])
        if hidden or suffix not in _LISTED:
            left_out.add("/".join(parts[: hidden or None]))
            continue
        error = _ARCHIVE if suffix in _ARCHIVES else ""
        sources.append(_source((folder, *parts), "", name, error))
    return _listing(sources, len(left_out))


def checked_bytes(source: Source, data: bytes, size: int, limits: Limits) -> bytes:
    """Returns `data`, of a file of `size` bytes, if it can be a photo's.

    Raises:
        PhotoError: It is empty or over the cap.
    """
    if max(size, len(data)) > limits.max_bytes:
        raise _refused(source.photo, too_large(limits))
    if not data:
        raise _refused(source.photo, _EMPTY)
    return data


def as_error(source: Source) -> PhotoError:
    """What is known to be wrong with a source that has an error."""
    return _refused(source.photo, source.error)


def lies_in_zip(error: str) -> bool:
    """Whether a photo that could not be read is itself wrong in its ZIP, however often it is
    tried."""
    return error in (_DAMAGED, _EMPTY)


def storable(source: Source) -> Source:
    """A name that is no text, as old archives and shares have them, is told by its row."""
    try:
        source.path.encode()
    except UnicodeEncodeError:
        readable = source.path.encode(errors="replace").decode()
        error = "its name is not in a form we can keep; give the file another name"
        return replace(source, path=readable, error=source.error or error)
    return source


def can_be_opened(source: Source) -> bool:
    """Whether the file that a photo lies in is there and may be read."""
    try:
        with _opened(source.path, source.photo, None):
            return True
    except (OSError, PhotoError):
        return False


def read_source(source: Source, *, root: Path | None = None, limits: Limits = Limits()) -> bytes:
    """Reads the bytes of one photo, never more than `limits.max_bytes` of them.

    Threads may read at the same time. No file stays open; what was learnt of a ZIP's table of
    contents is kept for the next photo.

    Args:
        source: From one of the listings.
        root: The only folder that may be read from; links are followed anew and checked.
        limits: Caps the size, unpacked.

    Raises:
        PhotoError: Whatever keeps the photo from being read.
    """
    if source.error:
        raise as_error(source)
    try:
        with _opened(source.path, source.photo, root) as file:
            if source.member is not None:
                return _member(file, source.photo, source.member, limits)
            size = os.fstat(file.fileno()).st_size
            data = file.read(size + 1) if size <= limits.max_bytes else b""
    except OSError as exc:
        raise _refused(source.photo, _unopened("file", exc)) from exc
    except MemoryError as exc:
        raise _refused(source.photo, _MEMORY) from exc
    return checked_bytes(source, data, size, limits)


def upload_label(name: str) -> tuple[str, str]:
    """Label and building of an uploaded file, from the name or relative path the browser gave.

    The folder that was chosen begins every path; it is left out of the labels.
    """
    parts = [part for part in re.split(r"[\\/]", name) if part not in ("", ".", "..")]
    return _label(*(parts[1:] or parts)) or "photo", _label(*parts[-2:-1])


def is_hidden(name: str) -> bool:
    """Whether an uploaded file, or a folder it lies in, is one that no listing shows."""
    return any(_hidden(part) for part in re.split(r"[\\/]", name))


def same_entry(one: str, other: str) -> bool:
    """Whether two labels can be of the same entry of a ZIP.

    One may begin with the name of the ZIP or end in the number that tells it from its namesakes.
    """
    labels = (f"/{re.sub(r' [(][0-9]+[)]$', '', label)}" for label in (one, other))
    short, long = sorted(labels, key=len)
    return long.endswith(short[-100:])  # all that is sure of a long one


def natural_key(name: str) -> list:
    """Sorts the names of uploads as those of files are sorted: IMG_2 before IMG_10."""
    return [_natural(part) for part in name.split("/")]


def photo_root() -> Path | None:
    """The only folder that visitors may name photos in, where the administrator has set one."""
    root = os.environ.get("HERITAGE_PHOTO_ROOT")
    return Path(root).resolve() if root else None


def below_root(given: str, root: Path) -> Path:
    """The path that a visitor named, with links followed; it need not exist.

    Args:
        given: Relative to `root`, or absolute and within it.
        root: The only folder that visitors may name photos in.

    Raises:
        PhotoError: It leads out of `root`, or is no path. The message repeats what was given and
            tells of no other path of the server.
    """
    # `..` is refused even where it would lead back in: the answer could tell of links outside.
    if ".." in Path(given).parts or given.startswith("~"):
        raise _refused(given, _OUTSIDE)
    try:
        path = Path(os.path.realpath(root / given))
        if not path.is_relative_to(os.path.realpath(root)):
            raise _refused(given, _OUTSIDE)
        path.exists()  # raises where the name is too long for any file
    except (OSError, ValueError):
        raise _refused(given, _NO_PATH) from None
    return path


# --- names -----------------------------------------------------------------------------------


def _listing(sources: Iterable[Source], left_out: int) -> Listing:
    """Puts the sources in order and tells those of the same label apart."""
    ordered, used, numbers = [], set(), Counter[str]()
    for source in sorted(sources, key=_place):
        label, base = source.photo, _cut(source.photo, 290)
        while label in used:
            numbers[base] += 1
            label = f"{base} ({numbers[base] + 1})"
        used.add(label)
        ordered.append(replace(source, photo=label))
    return Listing(tuple(ordered), left_out)


def _place(source: Source) -> tuple:
    inside = () if source.member is None else source.photo.split("/")
    parts = [_natural(part) for part in (*Path(source.path).parts, *inside)]
    return parts, source.path, source.photo


def _natural(text: str) -> list:
    """Sorts IMG_2 before IMG_10; numbers by length, as int() refuses very long ones."""
    pieces: list = re.split("0*([0-9]+)", _composed(text).casefold())
    pieces[1::2] = [(len(digits), digits) for digits in pieces[1::2]]
    return pieces


def _label(*parts: str) -> str:
    text = _composed("/".join(parts))
    shown = (" " if unicodedata.category(c) == "Zs" else c for c in text)
    return _cut("".join(c if c.isprintable() else "\ufffd" for c in shown), 300)


def _composed(text: str) -> str:
    """NFC, in pieces: thousands of marks on one letter would take the square of their time."""
    pieces = (text[at : at + 500] for at in range(0, len(text), 500))
    return "".join(unicodedata.normalize("NFC", piece) for piece in pieces)


def _cut(text: str, most: int) -> str:
    half = most // 2
    return text if len(text) <= most else f"{text[: most - half - 1]}…{text[-half:]}"


def _name(path: Path) -> str:
    """What the user calls a file or folder, also where the path is `.` or a whole drive."""
    if path.name not in ("", ".."):
        return path.name
    real = Path(os.path.realpath(path))
    return real.name or real.anchor


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix[1:].lower()


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.endswith(JOURNAL_END) or name.casefold() in _SYSTEM_FOLDERS


# --- files and folders -----------------------------------------------------------------------


def _walk(folder: Path, root: Path | None, place: str = "") -> tuple[list[Source], int]:
    """Finds the photos below `folder`; labels begin with `place`."""
    name, base = _name(folder), _checked(str(folder), _name(folder), root, folder_too=True)
    if not Path(base).is_dir():
        raise _refused(name, _NO_FOLDER)
    sources: list[Source] = []
    left_out = 0
    seen = set()
    todo = deque[tuple[str, tuple[str, ...]]]([(base, ())])
    while todo:
        here, above = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        try:
            with os.scandir(here) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as exc:
            if not above:
                raise _refused(name, _unopened("folder", exc)) from exc
            path = str(Path(base, *above))
            sources.append(_source((name, *above), place, path, _unopened("folder", exc)))
            continue
        for entry in entries:
            parts, is_folder = (*above, entry.name), _is_folder(entry)
            if _hidden(entry.name) or not (is_folder or _suffix(entry.name) in _LISTED):
                left_out += 1
                continue
            error = _ARCHIVE if _suffix(entry.name) in _ARCHIVES and not is_folder else ""
            try:
                if is_folder or not entry.is_file(follow_symlinks=False):
                    real = _checked(entry.path, entry.name, root, folder_too=is_folder)
            except PhotoError as exc:
                error = _told(exc)
            if error or not is_folder:
                sources.append(_source((name, *parts), place, str(Path(base, *parts)), error))
            elif not Path(base).is_relative_to(real):
                # Linked folders come last, so that photos go by the folder they really lie in.
                (todo.appendleft if entry.is_symlink() else todo.append)((real, parts))
    return sources, left_out


def _source(
    parts: Sequence[str], place: str, path: str, error: str, member: int | None = None
) -> Source:
    """Makes a source from the names on the way to it, the first of them the folder's or ZIP's."""
    label = _label(*([place] if place else []), *parts[1:])
    return Source(label, _label(parts[-2]), path, member, error)


def _alone(path: Path, error: str = "") -> Source:
    building = _label(_name(path.parent))
    return Source(_label(_name(path)), building, str(path.absolute()), error=error)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _checked(path: str, label: str, root: Path | None, *, folder_too: bool = False) -> str:
    """Follows all links to a file (or folder) that may be read.

    Raises:
        PhotoError: It is outside of `root`, missing, or neither file nor folder.
    """
    if "\0" in path:
        raise _refused(label, _NO_FILE)
    real = os.path.realpath(path)
    if root and not Path(real).is_relative_to(os.path.realpath(root)):
        raise _refused(label, _OUTSIDE)
    try:
        mode = Path(real).stat().st_mode
    except OSError as exc:
        lost = isinstance(exc, FileNotFoundError) and Path(path).is_symlink()
        raise _refused(label, _LOST_LINK if lost else _unopened("file", exc)) from exc
    if not (stat.S_ISREG(mode) or (folder_too and stat.S_ISDIR(mode))):
        raise _refused(label, _SPECIAL)
    return real


def _no_surprises(path: str, flags: int) -> int:
    """Opens without following a link or waiting for a pipe that has just been put there."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


@contextlib.contextmanager
def _opened(path: str, label: str, root: Path | None) -> Iterator[io.BufferedReader]:
    with open(_checked(path, label, root), "rb", opener=_no_surprises) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _refused(label, _SPECIAL)
        yield file


def _refused(label: str, error: str) -> PhotoError:
    reason, _, advice = error.partition("; ")
    return PhotoError(_cut(label, 120), reason, advice)


def _told(exc: PhotoError) -> str:
    return f"{exc.reason}; {exc.advice}"


def _unopened(kind: str, exc: OSError) -> str:
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        return _NO_FILE
    return f"the {kind} cannot be opened ({exc.strerror}); check the path and your permissions"


def too_large(limits: Limits = Limits()) -> str:
    """What is told of a photo of more bytes than `limits` allow."""
    most_mb = limits.max_bytes / 2**20
    return f"the file is larger than {most_mb:.4g} MB; save a smaller copy and use that"


# --- ZIPs ------------------------------------------------------------------------------------


def _unzip(
    path: Path, name: str, root: Path | None, limits: Limits, place: str = ""
) -> tuple[list[Source], int]:
    """Finds the photos in a ZIP that the user calls `name`; labels begin with `place`."""
    name = re.split(r"[\\/]", name)[-1] or path.name
    try:
        with _opened(str(path), name, root) as file:
            entries = _entries(file, name)
    except OSError as exc:
        raise _refused(name, _unopened("file", exc)) from exc
    sources: list[Source] = []
    left_out = total_bytes = 0
    for member, info in enumerate(entries):
        if info.orig_filename.endswith(("/", "\\")):
            continue
        parts = _entry_parts(info)
        suffix = _suffix(parts[-1])
        if any(map(_hidden, parts)) or suffix not in _LISTED:
            left_out += 1
            continue
        error = _ARCHIVE if suffix in _ARCHIVES else _entry_error(info, limits)
        total_bytes += 0 if error else info.file_size
        sources.append(
            _source((Path(name).stem, *parts), place, str(path.absolute()), error, member)
        )
    if total_bytes > _MAX_TOTAL_BYTES:
        raise _refused(name, _TOO_MUCH)
    return sources, left_out


def _entry_parts(info: zipfile.ZipInfo) -> list[str]:
    """Names of the folders an entry lies in and its own, without what would lead elsewhere."""
    name = info.orig_filename
    if not info.flag_bits & 0x800:  # macOS packs UTF-8 without saying so, zipfile takes CP437
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()
    parts = re.split(r"[\\/]", re.sub("^[A-Za-z]:", "", name))
    return [part for part in parts if part not in ("", ".", "..")] or [""]


def _entry_error(info: zipfile.ZipInfo, limits: Limits) -> str:
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        return _LINK
    if info.flag_bits & 0x41:
        return _LOCKED
    if max(info.file_size, info.compress_size) > limits.max_bytes:
        return too_large(limits)
    if info.file_size > max(2**20, _MAX_RATIO * info.compress_size):
        return _RATIO
    # bzip2 and LZMA cannot be unpacked in bounded memory, and nobody packs photos with them.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return _METHOD
    return ""


class _ShortReads:
    """Keeps zipfile from taking in a table of contents of any length, at half a KB an entry."""

    def __init__(self, file: io.BufferedReader, name: str) -> None:
        self.seek, self.tell, self._read, self._name = file.seek, file.tell, file.read, name

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_DIRECTORY_BYTES:
            raise _refused(self._name, _TOO_MANY)
        return self._read(size)


_BAD_ZIP = (
    zipfile.BadZipFile,
    NotImplementedError,
    OSError,
    OverflowError,
    struct.error,
    ValueError,
)
_recent: dict[tuple[int, ...], tuple[zipfile.ZipInfo, ...]] = {}
_recent_lock = threading.Lock()


def _entries(file: io.BufferedReader, name: str) -> tuple[zipfile.ZipInfo, ...]:
    """The ZIP's table of contents; the last few are kept, as every photo in it needs it."""
    facts = os.fstat(file.fileno())
    stamp = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    with _recent_lock:
        if stamp not in _recent:
            if len(_recent) == 4:
                del _recent[next(iter(_recent))]
            _recent[stamp] = _contents(file, name)
        return _recent[stamp]


def _contents(file: io.BufferedReader, name: str) -> tuple[zipfile.ZipInfo, ...]:
    try:
        entries = zipfile.ZipFile(_ShortReads(file, name)).infolist()
    except _BAD_ZIP as exc:
        file.seek(0)
        raise _refused(name, _TORN_ZIP if file.read(2) == b"PK" else _NO_ZIP) from exc
    if len(entries) > _MAX_ENTRIES:
        raise _refused(name, _TOO_MANY)
    return tuple(entries)


def _member(file: io.BufferedReader, label: str, member: int, limits: Limits) -> bytes:
    """Unpacks one entry, never further than the size it states."""
    entries = _entries(file, label)
    if not 0 <= member < len(entries):
        raise _refused(label, _CHANGED)
    info = entries[member]
    if not same_entry(_label(*_entry_parts(info)), label):
        raise _refused(label, _CHANGED)
    if error := _entry_error(info, limits):
        raise _refused(label, error)
    try:
        file.seek(max(0, info.header_offset))
        name_bytes, extra_bytes = struct.unpack("<26xHH", file.read(30))
        file.seek(name_bytes + extra_bytes, io.SEEK_CUR)
        data = file.read(info.compress_size)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, info.file_size + 1)
    except (struct.error, zlib.error, OverflowError, ValueError) as exc:
        raise _refused(label, _DAMAGED) from exc
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise _refused(label, _DAMAGED)
    if not data:
        raise _refused(label, _EMPTY)
    return data
