from __future__ import annotations

import os
import random
import shutil
import struct
import sys
import threading
import tracemalloc
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from heritage.errors import PhotoError
from heritage.photos import Limits
from heritage.sources import (
    Source,
    below_root,
    list_files,
    list_folder,
    list_zip,
    photo_root,
    read_source,
    upload_label,
)

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's file names")


def put(path, data=b"photo"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def zipped(path, entries, **options):
    """Writes (name or ZipInfo, bytes) pairs as a ZIP; names may be double."""
    with zipfile.ZipFile(path, "w", **options) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, data in entries:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo()
            info.filename = getattr(name, "filename", name)  # ZipInfo() would tidy it up
            archive.writestr(info, data, options.get("compression"))
    return path


def stated(path, entries, **facts):
    """A ZIP whose table of contents states `facts` of every entry, whatever is true."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries:
            archive.writestr(name, data)
        for info in archive.infolist():
            for fact, value in facts.items():
                setattr(info, fact, value)
    return path


def labels(listing):
    return [source.photo for source in listing.sources]


def errors(listing):
    return {source.photo: source.error for source in listing.sources if source.error}


def refusal(call, *args, **kwargs):
    with pytest.raises(PhotoError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# --- order, labels and buildings -------------------------------------------------------------


def test_photos_come_in_natural_order_whatever_order_they_were_written_in(tmp_path):
    expected = ["A2/1.jpg", "a10/1.jpg"]
    expected += ["IMG_1.jpg", "img_2.JPG", "IMG_010.jpg", "Img_11.jpg", "z/2.jpg"]
    for seed in range(3):
        shuffled = random.Random(seed).sample(expected, len(expected))
        for name in shuffled:
            put(tmp_path / str(seed) / name)
        assert labels(list_folder(tmp_path / str(seed))) == expected
        made = zipped(tmp_path / f"{seed}.zip", [(name, b"x") for name in shuffled])
        assert labels(list_zip(made)) == expected
        files = [tmp_path / str(seed) / name for name in shuffled if "/" not in name]
        assert labels(list_files(files)) == [name for name in expected if "/" not in name]


def test_names_that_differ_only_in_case_or_zeros_keep_one_order(tmp_path):
    names = ["A1.jpg", "a1.jpg", "a01.jpg", "A001.jpg"]
    orders = set()
    for seed in range(4):
        entries = [(name, b"x") for name in random.Random(seed).sample(names, 4)]
        orders.add(tuple(labels(list_zip(zipped(tmp_path / f"{seed}.zip", entries)))))
    assert len(orders) == 1


def test_a_number_of_ten_thousand_digits_is_sorted_too(tmp_path):
    made = zipped(tmp_path / "a.zip", [(f"{'9' * 10_000}.jpg", b"x"), ("1.jpg", b"x")])
    assert labels(list_zip(made))[0] == "1.jpg"


def test_the_building_is_the_folder_a_photo_lies_in(tmp_path):
    for name in ("front.jpg", "Tower/top.jpg", "Tower/North side/1.jpg"):
        put(tmp_path / "Castle" / name)
    buildings = {"front.jpg": "Castle", "Tower/top.jpg": "Tower"}
    buildings["Tower/North side/1.jpg"] = "North side"
    listing = list_folder(tmp_path / "Castle")
    assert {source.photo: source.building for source in listing.sources} == buildings
    made = zipped(tmp_path / "temp8451.zip", [(name, b"x") for name in buildings])
    listing = list_zip(made, "visit/Castle.zip")
    assert {source.photo: source.building for source in listing.sources} == buildings
    assert list_files([tmp_path / "Castle" / "front.jpg"]).sources[0].building == "Castle"


def test_the_folder_one_stands_in_has_a_name(tmp_path, monkeypatch):
    put(tmp_path / "Castle" / "1.jpg")
    (tmp_path / "Castle" / "Tower").mkdir()
    monkeypatch.chdir(tmp_path / "Castle" / "Tower")
    assert list_folder(Path("..")).sources[0].building == "Castle"
    monkeypatch.chdir(tmp_path / "Castle")
    assert list_folder(Path()).sources[0].building == "Castle"
    assert list_files([Path("1.jpg")]).sources[0].building == "Castle"
    assert Path(list_files([Path("1.jpg")]).sources[0].path).is_absolute()


def test_what_is_no_photo_is_counted_and_not_listed(tmp_path):
    others = ["Thumbs.db", "notes.txt", "clip.MOV", ".hidden.jpg", "sub/._1.jpg", "jpg"]
    for name in ["1.jpg", "2.HEIC", "sub/3.tiff", *others]:
        put(tmp_path / "visit" / name)
    (tmp_path / "visit" / "empty").mkdir()
    listing = list_folder(tmp_path / "visit")
    assert labels(listing) == ["1.jpg", "2.HEIC", "sub/3.tiff"]
    assert listing.left_out == len(others)
    names = ["1.jpg", "__MACOSX/1.jpg", "@eaDir/1.jpg/thumb.jpg", ".git/2.jpg", "a/", "", *others]
    listing = list_zip(zipped(tmp_path / "a.zip", [(name, b"x") for name in names]))
    assert labels(listing) == ["1.jpg"]
    assert listing.left_out == len(others) + 4


def test_the_pictures_a_triage_keeps_are_no_photos_of_a_visit(tmp_path):
    put(tmp_path / "1.jpg")
    put(tmp_path / "out.csv.unfinished" / "thumbnails" / "ab" / "abc.jpg")
    put(tmp_path / "unfinished" / "2.jpg")
    listing = list_folder(tmp_path)
    assert [source.photo for source in listing.sources] == ["1.jpg", "unfinished/2.jpg"]
    assert listing.left_out == 1


def test_a_hidden_folder_is_not_looked_into_and_counts_once(tmp_path):
    for name in (".cache/1.jpg", ".cache/2.jpg", "@eaDir/3.jpg", "__MACOSX/4.jpg"):
        put(tmp_path / name)
    listing = list_folder(tmp_path)
    assert (listing.sources, listing.left_out) == ((), 3)


def test_labels_are_printable_short_and_tell_photos_apart(tmp_path):
    long = "x" * 400
    names = [
        "a\nb.jpg",
        "a\0b.jpg",
        "evil\u202egpj.jpg",
        "Turm 🏰.jpg",
        "9.41\u202fAM.jpg",
        f"{long}1.jpg",
        f"{long}2.jpg",
        f"{long}2.jpg",
    ]
    made = zipped(tmp_path / "a.zip", [(name, str(i).encode()) for i, name in enumerate(names)])
    listing = list_zip(made)
    assert len(set(labels(listing))) == len(names)
    assert all(label.isprintable() and len(label) <= 300 for label in labels(listing))
    assert {"Turm 🏰.jpg", "9.41 AM.jpg", "evil\ufffdgpj.jpg"} <= set(labels(listing))
    assert sum(label.endswith(("x1.jpg", "x2.jpg")) for label in labels(listing)) == 2
    assert sorted(map(read_source, listing.sources)) == [str(i).encode() for i in range(8)]


def test_many_photos_of_one_name_are_told_apart(tmp_path):
    made = zipped(tmp_path / "a.zip", [("IMG_1.jpg", str(i).encode()) for i in range(15_000)])
    listing = list_zip(made)
    assert labels(listing)[:3] == ["IMG_1.jpg", "IMG_1.jpg (2)", "IMG_1.jpg (3)"]
    assert len(set(labels(listing))) == 15_000
    assert [read_source(source) for source in listing.sources[:3]] == [b"0", b"1", b"2"]


def test_a_photo_really_called_2_is_not_taken_for_the_double(tmp_path):
    names = ["a.jpg", "a.jpg", "a.jpg (2).jpg", "b.jpg", "b.jpg"]
    made = zipped(tmp_path / "a.zip", [(name, b"x") for name in names])
    assert len(set(labels(list_zip(made)))) == 5


# --- folders ---------------------------------------------------------------------------------


def test_a_photo_in_a_folder_is_read_as_it_is(tmp_path):
    put(tmp_path / "a" / "1.jpg", b"some bytes")
    (source,) = list_folder(tmp_path).sources
    assert (source.path, source.member) == (str(tmp_path / "a" / "1.jpg"), None)
    assert read_source(source) == b"some bytes"


@posix_only
def test_loops_of_links_end_and_each_photo_is_listed_once(tmp_path):
    put(tmp_path / "in" / "a" / "1.jpg")
    put(tmp_path / "in" / "z" / "2.jpg")
    put(tmp_path / "3.jpg")
    for link, to in {
        "self.jpg": "self.jpg",
        "a/up": "..",
        "a/0": "../z",
        "z/back": "../a",
        "a/above": "../..",
        "a/ring1": "ring2",
        "a/ring2": "ring1",
    }.items():
        (tmp_path / "in" / link).symlink_to(to)
    listing = list_folder(tmp_path / "in")
    assert labels(listing) == ["a/1.jpg", "self.jpg", "z/2.jpg"]
    assert "cannot be opened" in errors(listing)["self.jpg"]
    assert [source.building for source in listing.sources] == ["a", "in", "z"]


@posix_only
def test_links_are_followed_where_no_root_is_set(tmp_path):
    put(tmp_path / "far" / "1.jpg", b"one")
    put(tmp_path / "far" / "2.jpg", b"two")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "tower").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "9.jpg").symlink_to(tmp_path / "far" / "1.jpg")
    (tmp_path / "in" / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    listing = list_folder(tmp_path / "in")
    assert labels(listing) == ["9.jpg", "lost.jpg", "tower/1.jpg", "tower/2.jpg"]
    assert errors(listing).keys() == {"lost.jpg"}
    assert "leads nowhere" in errors(listing)["lost.jpg"]
    read = {s.photo: read_source(s) for s in listing.sources if not s.error}
    assert read == {"9.jpg": b"one", "tower/1.jpg": b"one", "tower/2.jpg": b"two"}


@posix_only
def test_with_a_root_nothing_outside_is_listed_or_read(tmp_path):
    secret = put(tmp_path / "secret" / "SECRET.jpg", b"secret")
    put(tmp_path / "root" / "1.jpg")
    put(tmp_path / "root" / "other" / "2.jpg")
    root = tmp_path / "root"
    (root / "file.jpg").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    (root / "visit.zip").symlink_to(zipped(secret.parent / "s.zip", [("SECRET2.jpg", b"x")]))
    (root / "inside").symlink_to("other")
    listing = list_folder(root, root=root)
    assert labels(listing) == ["1.jpg", "file.jpg", "folder", "other/2.jpg", "visit.zip"]
    assert errors(listing).keys() == {"file.jpg", "folder", "visit.zip"}
    assert all("outside the photos of this server" in e for e in errors(listing).values())
    named = list_files([root / "file.jpg", root / "folder", root / "visit.zip", secret], root=root)
    assert len(named.sources) == len(errors(named)) == 4
    for source in named.sources:
        assert str(tmp_path) not in refusal(read_source, source, root=root)
    for call in (list_folder, list_zip):
        for path in (secret.parent, root / "folder", root / "visit.zip", root / ".." / "secret"):
            message = refusal(call, path, root=root)
            assert str(tmp_path) not in message
    assert "outside" in refusal(list_folder, root / "folder", root=root)
    assert "outside" in refusal(list_zip, root / "visit.zip", root=root)


@posix_only
@pytest.mark.parametrize("swapped", ["file", "folder", "zip"])
def test_a_link_swapped_in_after_listing_is_not_read(tmp_path, swapped):
    root, secret = tmp_path / "root", put(tmp_path / "secret" / "1.jpg", b"secret")
    put(root / "tower" / "1.jpg")
    zipped(root / "a.zip", [("1.jpg", b"photo")])
    path = root / "a.zip" if swapped == "zip" else root / "tower" / "1.jpg"
    (source,) = list_files([path], root=root).sources
    assert read_source(source, root=root) == b"photo"
    if swapped == "folder":
        shutil.rmtree(root / "tower")
        (root / "tower").symlink_to(secret.parent)
    else:
        path.unlink()
        path.symlink_to(secret)
    assert "1.jpg: it is outside the photos" in refusal(read_source, source, root=root)


@posix_only
def test_pipes_and_devices_are_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.txt")
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    listing = list_folder(tmp_path)
    assert labels(listing) == ["device.jpg", "pipe.jpg", "pipe.zip"]
    assert all("not a regular file" in error for error in errors(listing).values())
    named = list_files([tmp_path / "pipe.jpg", tmp_path / "pipe.zip"])
    assert len(errors(named)) == 2
    unsuspecting = Source("pipe.jpg", "", str(tmp_path / "pipe.jpg"))
    assert "not a regular file" in refusal(read_source, unsuspecting)
    assert "not a regular file" in refusal(list_zip, tmp_path / "pipe.zip")


@posix_only
def test_a_folder_that_cannot_be_opened_is_one_row(tmp_path):
    put(tmp_path / "1.jpg")
    put(tmp_path / "x" / "2.jpg")
    name = "d" * 250
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(18):  # deeper than any path may be long, which stops even root
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    listing = list_folder(tmp_path)
    shutil.rmtree(tmp_path / name)
    assert len(listing.sources) == 3
    (error,) = errors(listing).values()
    assert "cannot be opened" in error
    assert "permissions" in error
    assert [s.photo for s in listing.sources if not s.error] == ["1.jpg", "x/2.jpg"]


@contextmanager
def as_nobody():
    """Root may read everything, so it steps down for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@posix_only
def test_what_one_may_not_read_is_said_by_name():
    with TemporaryDirectory() as name:
        folder = Path(name)
        put(folder / "private" / "1.jpg").parent.chmod(0)
        put(folder / "2.jpg").chmod(0)
        folder.chmod(0o755)
        with as_nobody():
            listing = list_folder(folder)
            assert errors(listing).keys() == {"private"}
            assert "2.jpg: the file cannot be opened" in refusal(read_source, listing.sources[0])
            assert "private: the folder cannot be opened" in refusal(
                list_folder, folder / "private"
            )
        (folder / "private").chmod(0o700)


def test_no_folder_is_said_without_the_path_to_it(tmp_path):
    message = refusal(list_folder, tmp_path / "castle")
    assert message.startswith("castle: there is no such")
    assert "a file, not a folder" in refusal(list_folder, put(tmp_path / "1.jpg"))
    assert "no such file" in refusal(list_folder, tmp_path / "1.jpg" / "2")
    assert "cannot be opened" in refusal(list_folder, tmp_path / ("x" * 300))
    assert str(tmp_path) not in message


def test_an_archive_among_the_photos_is_not_passed_over_in_silence(tmp_path):
    for name in ("1.jpg", "more.ZIP", "more.tar.gz", "more.7z"):
        put(tmp_path / "visit" / name)
    listing = list_folder(tmp_path / "visit")
    assert errors(listing).keys() == {"more.ZIP", "more.tar.gz", "more.7z"}
    assert all("unpack it" in error for error in errors(listing).values())


@linux_only
def test_file_names_that_are_no_text_are_listed_and_read(tmp_path):
    put(tmp_path / os.fsdecode(b"T\xfcr.jpg"), b"door")
    (source,) = list_folder(tmp_path).sources
    assert source.photo == "T\ufffdr.jpg"
    assert read_source(source) == b"door"


def test_composed_and_decomposed_names_are_one_building(tmp_path):
    entries = [("Tu\u0308rme/1.jpg", b"x"), ("T\u00fcrme/2.jpg", b"x")]
    listing = list_zip(zipped(tmp_path / "a.zip", entries))
    assert {source.building for source in listing.sources} == {"T\u00fcrme"}
    assert labels(listing) == ["T\u00fcrme/1.jpg", "T\u00fcrme/2.jpg"]


# --- what is named one by one ----------------------------------------------------------------


def test_photos_zips_and_folders_can_be_named_together(tmp_path):
    photo = put(tmp_path / "scan.dat", b"any suffix")
    put(tmp_path / "North" / "roof" / "1.jpg")
    put(tmp_path / "South" / "roof" / "1.jpg")
    put(tmp_path / "South" / "notes.txt")
    made = zipped(tmp_path / "West.zip", [("roof/1.jpg", b"x"), ("a.txt", b"x")])
    places = [photo, tmp_path / "North", tmp_path / "South", made]
    listing = list_files(places)
    roofs = ["North/roof/1.jpg", "scan.dat", "South/roof/1.jpg", "West/roof/1.jpg"]
    assert labels(listing) == roofs
    assert labels(list_files(places[::-1])) == roofs
    assert listing.left_out == 2
    assert not errors(listing)
    assert [read_source(s) for s in listing.sources] == [b"photo", b"any suffix", b"photo", b"x"]
    assert labels(list_files([made])) == labels(list_zip(made)) == ["roof/1.jpg"]


def test_what_is_named_twice_is_listed_once(tmp_path):
    photo = put(tmp_path / "visit" / "1.jpg")
    put(tmp_path / "visit" / "notes.txt")
    listing = list_files([photo, tmp_path / "visit", photo, tmp_path / "visit"])
    assert len(listing.sources) == 1
    assert listing.left_out == 1


def test_the_same_name_in_two_folders_is_told_apart(tmp_path):
    files = [put(tmp_path / place / "IMG_1.jpg", place.encode()) for place in ("b", "a")]
    listing = list_files(files)
    assert [(s.photo, s.building) for s in listing.sources] == [
        ("IMG_1.jpg", "a"),
        ("IMG_1.jpg (2)", "b"),
    ]
    assert [read_source(s) for s in listing.sources] == [b"a", b"b"]


def test_one_bad_file_is_a_row_and_not_the_end(tmp_path):
    good = put(tmp_path / "1.jpg")
    torn = put(tmp_path / "torn.zip", b"PK\3\4 and no more")
    long = tmp_path / ("x" * 300)
    listing = list_files([good, torn, tmp_path / "gone.jpg", Path("nul\0.jpg"), long])
    assert len(listing.sources) == 5
    assert len(errors(listing)) == 4
    assert errors(listing)["torn.zip"].startswith("the ZIP ends early")
    assert errors(listing)["gone.jpg"].startswith("there is no such file")
    for source in listing.sources:
        if source.error:
            assert refusal(read_source, source).endswith(source.error)


# --- ZIPs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_photos_in_a_zip_are_read_whole(tmp_path, method):
    photos = {f"{i}.jpg": random.Random(i).randbytes(50_000 + i) for i in range(5)}
    made = zipped(tmp_path / "a.zip", photos.items(), compression=method)
    listing = list_zip(made)
    assert [source.path for source in listing.sources] == [str(made)] * 5
    assert {source.photo: read_source(source) for source in listing.sources} == photos


def test_a_zip_behind_other_bytes_and_with_a_comment_is_read(tmp_path):
    made = zipped(tmp_path / "a.zip", [("1.jpg", b"photo")])
    with zipfile.ZipFile(made, "a") as archive:
        archive.comment = b"from the site visit"
    made.write_bytes(b"#!/bin/sh\n" + made.read_bytes())
    assert [read_source(source) for source in list_zip(made).sources] == [b"photo"]


def test_names_that_lead_elsewhere_are_only_labels(tmp_path):
    names = ["../../x.jpg", "/etc/y.jpg", "C:\\z\\w.jpg", "a\\..\\b\\v.jpg", "..\\.\\u.jpg"]
    made = zipped(tmp_path / "a.zip", [(name, name.encode()) for name in names])
    listing = list_zip(made)
    assert labels(listing) == ["a/b/v.jpg", "etc/y.jpg", "u.jpg", "x.jpg", "z/w.jpg"]
    assert [s.building for s in listing.sources] == ["b", "etc", "a", "a", "z"]
    assert sorted(read_source(s).decode() for s in listing.sources) == sorted(names)
    assert list(tmp_path.iterdir()) == [made]


@pytest.mark.parametrize(
    ("named", "packed"),
    [
        ("Tür.jpg", "Tür.jpg".encode()),  # says that it is UTF-8
        ("Txr.jpg", b"T\x81r.jpg"),  # Windows
        ("Txxr.jpg", "Tür.jpg".encode()),  # macOS, which does not say so
    ],
)
def test_names_are_read_as_they_were_packed(tmp_path, named, packed):
    made = zipped(tmp_path / "a.zip", [(named, b"x")])
    made.write_bytes(made.read_bytes().replace(named.encode(), packed))
    (source,) = list_zip(made).sources
    assert source.photo == "Tür.jpg"
    assert read_source(source) == b"x"


def special(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def test_entries_that_cannot_be_read_are_rows_that_say_why(tmp_path):
    entries = [
        ("1.jpg", b"photo"),
        (special("link.jpg", 0o120777), b"/etc/passwd"),
        (special("pipe.jpg", 0o010644), b""),
        (special("plain.jpg", 0o100644), b"photo"),
        ("inner.zip", b"PK"),
        ("bomb.bmp", bytes(3 * 2**20)),
    ]
    made = zipped(tmp_path / "a.zip", entries, compression=zipfile.ZIP_DEFLATED)
    listing = list_zip(made)
    for photo, why in {
        "link.jpg": "this is a link",
        "pipe.jpg": "this is a link",
        "inner.zip": "unpack it",
        "bomb.bmp": "hundreds of times its size",
    }.items():
        assert why in errors(listing)[photo]
    assert len(listing.sources) == 6
    assert len(errors(listing)) == 4
    for source in listing.sources:
        if not source.error:
            assert read_source(source) == b"photo"
            continue
        assert refusal(read_source, source) == f"{source.photo}: {source.error}"
        if source.photo != "inner.zip":  # what the listing found is found again
            unsuspecting = replace(source, error="")
            assert refusal(read_source, unsuspecting) == f"{source.photo}: {source.error}"


@pytest.mark.parametrize("flag", [0x1, 0x40])
def test_a_password_is_said(tmp_path, flag):
    made = stated(tmp_path / "a.zip", [("1.jpg", b"x")], flag_bits=flag)
    (source,) = list_zip(made).sources
    assert refusal(read_source, source).startswith("1.jpg: it is locked with a password; unpack")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bounds_are_left_alone(tmp_path, method):
    made = zipped(tmp_path / "a.zip", [("1.jpg", b"x")], compression=method)
    assert "unusual way" in errors(list_zip(made))["1.jpg"]


def test_photos_over_the_cap_are_rows(tmp_path):
    made = zipped(tmp_path / "a.zip", [("1.jpg", bytes(1000)), ("2.jpg", bytes(1001))])
    limits = Limits(max_bytes=1000)
    listing = list_zip(made, limits=limits)
    assert errors(listing).keys() == {"2.jpg"}
    assert "larger than" in errors(listing)["2.jpg"]
    assert len(read_source(listing.sources[0], limits=limits)) == 1000
    second = list_zip(made).sources[1]
    assert "2.jpg: the file is larger" in refusal(read_source, second, limits=limits)
    files = list_files([put(tmp_path / f"{n}.jpg", bytes(n)) for n in (1000, 1001)]).sources
    assert len(read_source(files[0], limits=limits)) == 1000
    assert "1001.jpg: the file is larger" in refusal(read_source, files[1], limits=limits)
    os.truncate(files[0].path, 2**42)  # more than any memory holds
    assert "1000.jpg: the file is larger" in refusal(read_source, files[0], limits=limits)


@pytest.mark.parametrize("states", [{"file_size": 10}, {"file_size": 90_000}, {"CRC": 7}])
def test_an_entry_that_is_not_what_it_states_is_damaged(tmp_path, states):
    made = stated(tmp_path / "a.zip", [("a/1.jpg", bytes(range(100)) * 10)], **states)
    (source,) = list_zip(made).sources
    assert refusal(read_source, source).startswith("a/1.jpg: the photo is damaged in the ZIP; ")


def test_a_bomb_that_states_a_small_size_is_not_unpacked(tmp_path):
    stated_bytes, true_bytes = 2 * 2**20, 100 * 2**20
    made = zipped(tmp_path / "a.zip", [("1.jpg", bytes(true_bytes))], compression=8)
    sizes = (struct.pack("<L", size) for size in (true_bytes, stated_bytes))
    made.write_bytes(made.read_bytes().replace(*sizes))
    (source,) = list_zip(made).sources
    assert not source.error
    tracemalloc.start()
    message = refusal(read_source, source)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "1.jpg: the photo is damaged" in message
    assert peak_bytes < 10 * 2**20


def test_damage_within_a_photo_is_said_and_the_others_are_read(tmp_path):
    photos = [(f"{i}.jpg", random.Random(i).randbytes(5000)) for i in range(3)]
    made = zipped(tmp_path / "a.zip", photos, compression=zipfile.ZIP_DEFLATED)
    data = bytearray(made.read_bytes())
    at = data.index(b"1.jpg") + 2000
    data[at : at + 20] = bytes(20)
    made.write_bytes(data)
    first, second, third = list_zip(made).sources
    assert (read_source(first), read_source(third)) == (photos[0][1], photos[2][1])
    assert refusal(read_source, second).startswith("1.jpg: the photo is damaged in the ZIP; ")


def test_a_zip_that_ends_early_and_none_at_all_are_told_apart(tmp_path):
    made = zipped(tmp_path / "a.zip", [("1.jpg", bytes(1000))])
    made.write_bytes(made.read_bytes()[:900])
    message = refusal(list_zip, made, "survey.zip")
    assert message == "survey.zip: the ZIP ends early or is damaged; copy or download it again"
    assert "no ZIP archive" in refusal(list_zip, put(tmp_path / "b.zip", b"Rar!"))
    assert "no ZIP archive" in refusal(list_zip, put(tmp_path / "c.zip", b""))
    assert "no such file" in refusal(list_zip, tmp_path / "d.zip")
    assert list_zip(zipped(tmp_path / "e.zip", [])).sources == ()


def test_no_cut_or_flipped_byte_ends_in_anything_but_words(tmp_path):
    rng, made = random.Random(5), tmp_path / "whole.zip"
    zipped(made, [(f"h/{i}.jpg", rng.randbytes(300)) for i in range(4)], compression=8)
    whole = made.read_bytes()
    for n in range(1500):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 2, 8))):
            at = rng.randrange(len(data)) if rng.random() < 0.3 else -rng.randrange(1, 260)
            data[at] = rng.choice((0, 0xFF, rng.randrange(256)))
        length = rng.choice((len(data), rng.randrange(len(data))))
        try:
            sources = list_zip(put(tmp_path / f"{n}.zip", data[:length])).sources
        except PhotoError:
            continue
        for source in sources:
            try:
                read_source(source)
            except PhotoError as error:
                assert error.subject[:50] == source.photo[:50]


def test_too_many_entries_and_too_many_gigabytes_are_refused(tmp_path):
    many = zipped(tmp_path / "many.zip", [(f"{i}.txt", b"") for i in range(20_001)])
    assert "many.zip: the ZIP has more than 20,000 entries; split it" in refusal(list_zip, many)
    entries = [(f"{i}.jpg", b"x") for i in range(103)]
    size = 199 * 2**20
    heavy = stated(tmp_path / "heavy.zip", entries, file_size=size, compress_size=size)
    assert "more than 20 GB; split it" in refusal(list_zip, heavy)
    stated(tmp_path / "heavy.zip", entries[:102], file_size=size, compress_size=size)
    assert len(list_zip(heavy).sources) == 102


def test_a_table_of_contents_beyond_all_bounds_is_not_taken_in(tmp_path, monkeypatch):
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", *[0] * 6, 0, 0, 0, 1, *[0] * 4, 0, 0) + b"x"
    count = 2**24 // len(entry) + 10
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65_535, 65_535, count * len(entry), 0, 0)
    made = put(tmp_path / "a.zip", entry * count + end)
    made_of = []
    real = zipfile.ZipInfo.__init__
    monkeypatch.setattr(zipfile.ZipInfo, "__init__", lambda *given: made_of.append(real(*given)))
    assert "more than 20,000 entries" in refusal(list_zip, made)
    assert len(made_of) <= 20_001


def test_a_zip_replaced_after_listing_gives_no_other_photo(tmp_path):
    made = zipped(tmp_path / "a.zip", [("1.jpg", b"one"), ("2.jpg", b"two")])
    _, second = list_zip(made).sources
    assert read_source(second) == b"two"
    zipped(made, [("1.jpg", b"one"), ("3.jpg", b"three")])
    assert "2.jpg: the ZIP is no longer the one that was listed" in refusal(read_source, second)
    zipped(made, [("1.jpg", b"one")])
    assert "no longer the one" in refusal(read_source, second)
    zipped(made, [("1.jpg", b"one"), ("2.jpg", b"newer")])
    assert read_source(second) == b"newer"
    made.unlink()
    assert "2.jpg: there is no such file" in refusal(read_source, second)


def test_of_a_zip_replaced_after_listing_the_folders_count_too(tmp_path):
    path = zipped(tmp_path / "visit.zip", [("chapel/0.jpg", b"chapel"), ("mill/0.jpg", b"mill")])
    chapel, mill = list_zip(path).sources
    labelled = list_files([path, tmp_path / "gone.jpg"]).sources[1]
    assert (labelled.photo, read_source(labelled)) == ("visit/chapel/0.jpg", b"chapel")
    zipped(path, [("mill/0.jpg", b"mill"), ("the mill/0.jpg", b"another mill")])
    for source in (chapel, mill, labelled):
        with pytest.raises(PhotoError, match="no longer the one that was listed"):
            read_source(source)


def test_the_table_of_contents_of_a_zip_is_read_once_for_all_its_photos(tmp_path, monkeypatch):
    made = zipped(tmp_path / "a.zip", [(f"{i}.jpg", b"x" * 99) for i in range(2_000)])
    some = list_zip(made).sources[:300]
    parsed = []
    real = zipfile.ZipFile.__init__
    monkeypatch.setattr(
        zipfile.ZipFile, "__init__", lambda *given, **named: parsed.append(real(*given, **named))
    )
    assert all(read_source(source) == b"x" * 99 for source in some)
    assert len(parsed) <= 1


def test_threads_read_the_same_zips_at_once(tmp_path):
    made = [
        zipped(tmp_path / f"{z}.zip", [(f"{i}.jpg", f"{z}/{i}".encode()) for i in range(50)])
        for z in range(6)
    ]
    sources = list_files(made).sources
    random.Random(1).shuffle(shuffled := list(sources))
    started = threading.Barrier(8)

    def read(part):
        started.wait()
        return [(source.photo, read_source(source).decode()) for source in part]

    with ThreadPoolExecutor(8) as pool:
        read_all = [pair for part in pool.map(read, [shuffled] * 8) for pair in part]
    assert len(read_all) == 8 * 300
    assert all(photo == f"{text}.jpg" for photo, text in read_all)


@linux_only
def test_no_file_stays_open(tmp_path):
    made = zipped(tmp_path / "a.zip", [("1.jpg", b"x"), ("2.jpg", b"")])
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    first, second = list_zip(made).sources
    read_source(first)
    assert "2.jpg: the file is empty" in refusal(read_source, second)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_an_error_names_a_long_photo_by_both_its_ends(tmp_path):
    source = Source("Castle/" + "x" * 280 + "/tower.jpg", "", str(tmp_path / "gone.jpg"))
    message = refusal(read_source, source)
    assert message.startswith("Castle/x")
    assert "/tower.jpg: there is no such file" in message


# --- paths that visitors name ----------------------------------------------------------------


def test_the_root_is_the_administrators_word(tmp_path, monkeypatch):
    monkeypatch.delenv("HERITAGE_PHOTO_ROOT", raising=False)
    assert photo_root() is None
    monkeypatch.setenv("HERITAGE_PHOTO_ROOT", "")
    assert photo_root() is None
    monkeypatch.setenv("HERITAGE_PHOTO_ROOT", str(tmp_path / "a" / ".."))
    assert photo_root() == tmp_path.resolve()


def test_a_visitor_names_paths_below_the_root(tmp_path):
    put(tmp_path / "Castle" / "1.jpg")
    assert below_root("Castle", tmp_path) == tmp_path / "Castle"
    assert below_root(str(tmp_path / "Castle"), tmp_path) == tmp_path / "Castle"
    assert below_root("./Castle//1.jpg", tmp_path) == tmp_path / "Castle" / "1.jpg"
    assert below_root("", tmp_path) == below_root(".", tmp_path) == tmp_path
    assert below_root("not yet there", tmp_path) == tmp_path / "not yet there"


@posix_only
def test_links_count_by_where_they_lead(tmp_path):
    root = tmp_path / "root"
    put(root / "Castle" / "1.jpg")
    put(tmp_path / "secret" / "1.jpg")
    (root / "in").symlink_to("Castle")
    (root / "out").symlink_to("../secret")
    (tmp_path / "alias").symlink_to("root")
    assert below_root("in", root) == root / "Castle"
    assert below_root("in", tmp_path / "alias") == root / "Castle"
    assert below_root(str(tmp_path / "alias" / "in"), root) == root / "Castle"
    for given in ("out", "out/1.jpg", str(root / "out")):
        assert refusal(below_root, given, root).startswith(f"{given[:120]}: it is outside")


@pytest.mark.parametrize(
    "given",
    [
        "..",
        "../secret",
        "a/../../secret",
        "/",
        "/etc/passwd",
        "/etc/no such file",
        "~",
        "~root/x",
        "nul\0",
        "/etc/nul\0",
        "\ud800",
        "x" * 300,
        "/x/" * 3000,
    ],
)
def test_nothing_else_is_a_path_and_the_server_gives_nothing_away(tmp_path, given):
    root = tmp_path / "the-root"
    put(tmp_path / "secret" / "1.jpg")
    root.mkdir()
    message = refusal(below_root, given, root)
    assert str(tmp_path) not in message
    assert "the-root" not in message


def test_what_is_outside_looks_the_same_whether_it_exists_or_not(tmp_path):
    put(tmp_path / "secret" / "1.jpg")
    (tmp_path / "root").mkdir()
    there = refusal(below_root, str(tmp_path / "secret"), tmp_path / "root")
    not_there = refusal(below_root, str(tmp_path / "sacred"), tmp_path / "root")
    assert there.replace("secret", "sacred") == not_there


@pytest.mark.parametrize(
    ("name", "label", "building"),
    [
        ("a.jpg", "a.jpg", ""),
        ("visit/nave/a.jpg", "nave/a.jpg", "nave"),
        ("visit/a.jpg", "a.jpg", "visit"),
        ("..\\..\\etc\\a.jpg", "a.jpg", "etc"),
        ("../../a.jpg", "a.jpg", ""),
        ("x\0y\n/a.jpg", "a.jpg", "x\ufffdy\ufffd"),
        ("", "photo", ""),
    ],
)
def test_an_upload_is_labelled_by_what_the_browser_calls_it(name, label, building):
    assert upload_label(name) == (label, building)
