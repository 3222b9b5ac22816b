"""On a cluster every photo has one row, the local engine's, whatever is lost meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest
from helpers import crack_photo, wait_until
from onnxruntime import InferenceSession
from pyarrow.fs import FileSystem

from heritage.answers import SCHEMA, Answers, Request
from heritage.buckets import key_of, list_photos, place, read_photo
from heritage.cards import read_card
from heritage.cli import main
from heritage.errors import PhotoError, StoreError
from heritage.inspection import Inspector
from heritage.sources import list_folder
from heritage.triage import MOST_BROKEN, MOST_TRIES

ROOT = Path(__file__).resolve().parent.parent
DISTINCT, TOWER = 12, 280


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """292 photos of three buildings: one twice, one torn, one empty, an archive, and no photos."""
    folder = tmp_path_factory.mktemp("cluster") / "visit"
    for building in ("chapel", "mill"):
        for index in range(4):
            path = folder / building / f"{index}.jpg"
            crack_photo(path, cracked=index % 2 == 0, seed=index + 4 * (building == "mill"))
    (folder / "mill" / "again.jpg").write_bytes((folder / "chapel" / "0.jpg").read_bytes())
    (folder / "mill" / "torn.jpg").write_bytes(crack_photo()[:700])
    (folder / "mill" / "empty.jpg").write_bytes(b"")
    (folder / "mill" / "old.zip").write_bytes(b"PK")
    (folder / "mill" / "notes.txt").write_bytes(b"damp")
    (folder / "mill" / ".hidden").mkdir()
    (folder / "mill" / ".hidden" / "0.jpg").write_bytes(b"")
    (folder / "tower, été").mkdir()
    several = [crack_photo(cracked=index % 2 == 0, seed=50 + index) for index in range(DISTINCT)]
    for index in range(TOWER):  # other bytes each, so that none is another's twin
        data = several[index % DISTINCT] + str(index).encode()
        (folder / "tower, été" / f"{index}.jpg").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def local_csv(photos, weights_dir, tmp_path_factory):
    """The table of the local engine."""
    out = tmp_path_factory.mktemp("local") / "out.csv"
    assert main(["triage", str(photos), "--csv", str(out), "--weights", str(weights_dir)]) == 1
    return out.read_text(encoding="utf-8-sig").splitlines()


class Nodes:
    """The nodes of one cluster on this machine."""

    def __init__(self, folder, environment):
        self.environment = environment | {"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled"}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "cluster_nodes.py")],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self.process.stdout.readline().strip()

    def add(self, cpus=1, gpus=0):
        """Adds a node; returns its processes."""
        self.process.stdin.write(f"{cpus} {gpus}\n")
        self.process.stdin.flush()
        return [psutil.Process(pid) for pid in json.loads(self.process.stdout.readline())]

    def stop(self):
        """Leaves no process behind, whatever has happened."""
        family = tree(psutil.Process(self.process.pid))
        with suppress(OSError):
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        kill(family)
        self.process.wait()
        self.process.stdout.close()


def tree(*roots):
    """Processes and all they have started."""
    found = []
    for process in roots:
        with suppress(psutil.NoSuchProcess):
            found += [process, *process.children(recursive=True)]
    return found


def kill(processes):
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


@pytest.fixture(scope="module")
def s3():
    """The environment of an S3 server on loopback, with an empty bucket `visits`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "heritage",
        "AWS_SECRET_ACCESS_KEY": "heritage",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        storage, _ = FileSystem.from_uri("s3://visits?allow_bucket_creation=true")
        storage.create_dir("visits")
        yield environment
    server.stop()


@pytest.fixture(scope="module")
def nodes(s3):
    """A cluster with one node that lives; it knows of the S3 server."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets must have short names
    cluster = Nodes(folder, os.environ | s3)
    try:
        cluster.add()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def start(nodes, weights_dir, *arguments):
    """Starts the command on the cluster."""
    given = ["--engine", "ray", "--ray-address", nodes.address, "--weights", weights_dir]
    return subprocess.Popen(
        [sys.executable, "-m", "heritage", "triage", *map(str, (*arguments, *given))],
        cwd=ROOT,
        env=nodes.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    """Exit status and what was told on stderr."""
    _, told = process.communicate(timeout=900)
    return process.returncode, told


def command_of(process):
    """The command of a process that may be gone by now."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def csv_lines(path):
    return path.read_text(encoding="utf-8-sig").splitlines()


def answered(out):
    return sum(Answers(place(str(out))).counted({}).values())


# --- the answers -----------------------------------------------------------------------------


@pytest.fixture
def request_(weights_dir, photos):
    return Request(place(str(photos)).identity, read_card(weights_dir / "mobilenet_v2.json"), False)


@pytest.fixture
def answers(tmp_path):
    return Answers(place(str(tmp_path / "answers")))


def bare(keys):
    """Rows that tell no more than their key."""
    text = dict.fromkeys(("photo", "building", "sha256", "perceptual_hash", "error"), "")
    rows = [text | {"key": key, "regions": [], "warnings": []} for key in keys]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write_part(answers, name, keys):
    """Writes a file as a cluster might."""
    Path(answers.parts).mkdir(exist_ok=True)
    path = Path(answers.parts, f"{name}.parquet")
    pa.parquet.write_table(bare(keys), path)
    return path


def test_a_file_that_is_written_again_takes_the_place_of_the_first(answers, request_):
    answers.begin(request_, resume=False, restart=False)
    for keys in (["a.jpg", "b.jpg"], ["c.jpg"], ["a.jpg", "b.jpg"]):
        answers.write(bare(keys))
    assert (answers.keys(), answers.doubled()) == ({"a.jpg", "b.jpg", "c.jpg"}, 0)


def test_a_torn_file_is_removed_and_its_photos_are_asked_for_again(answers, request_):
    answers.begin(request_, resume=False, restart=False)
    write_part(answers, "whole", ["a.jpg", "b.jpg"])
    torn = write_part(answers, "torn", ["c.jpg"])
    torn.write_bytes(torn.read_bytes()[:-9])
    write_part(answers, "empty", []).write_bytes(b"")
    answers.begin(request_, resume=True, restart=False)
    assert answers.keys() == {"a.jpg", "b.jpg"}


def test_rows_that_two_drivers_wrote_are_read_once_and_in_natural_order(answers, request_):
    answers.begin(request_, resume=False, restart=False)
    write_part(answers, "one", ["a/10.jpg", "a/9.jpg"])
    write_part(answers, "two", ["a/9.jpg", "A/1.jpg"])
    assert answers.doubled() == 1
    assert len(answers.rows()) == 3
    assert sorted(answers.keys()) == ["A/1.jpg", "a/10.jpg", "a/9.jpg"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: replace(r, card=replace(r.card, temperature=2.0)), "another checkpoint"),
        (lambda r: replace(r, card=replace(r.card, sha256="0" * 64)), "another checkpoint"),
        (lambda r: replace(r, detail=True), "asked for without --detail"),
        (lambda r: replace(r, source="/elsewhere"), "of the photos in"),
    ],
)
def test_answers_to_different_questions_are_never_mixed(answers, request_, change, words):
    answers.begin(request_, resume=False, restart=False)
    write_part(answers, "one", ["a.jpg"])
    answers.begin(request_, resume=True, restart=False)
    with pytest.raises(StoreError, match=words):
        answers.begin(change(request_), resume=True, restart=False)
    assert answers.keys() == {"a.jpg"}
    answers.begin(change(request_), resume=False, restart=True)
    assert answers.keys() == set()


def test_a_folder_with_answers_is_gone_on_with_only_when_asked(answers, request_):
    answers.begin(request_, resume=False, restart=False)
    with pytest.raises(StoreError, match="add --resume to go on with it, or --restart"):
        answers.begin(request_, resume=False, restart=False)


def test_parquet_files_of_somebody_else_are_left_alone(answers, request_):
    Path(answers.place.path).mkdir()
    other = write_part(answers, "theirs", ["a.jpg"])
    with pytest.raises(StoreError, match="not ours; name another folder"):
        answers.begin(request_, resume=True, restart=False)
    with pytest.raises(StoreError, match="not ours; name another folder"):
        answers.begin(request_, resume=False, restart=True)
    assert other.exists()


# --- storage ---------------------------------------------------------------------------------


def test_a_url_is_listed_and_read_as_the_folder_is(s3, photos):
    bucket = place("s3://visits").files
    for path in photos.rglob("*"):
        if path.is_file() and "tower" not in str(path):
            with bucket.open_output_stream(f"visits/same/{path.relative_to(photos)}") as stream:
                stream.write(path.read_bytes())
    there = place("s3://visits/same/")
    here = [source for source in list_folder(photos).sources if "tower" not in source.building]
    listing = list_photos(there)
    assert [(s.photo, s.building, s.error) for s in listing.sources] == [
        (s.photo, s.building, s.error) for s in here
    ]
    assert listing.left_out == list_folder(photos).left_out == 2
    assert [key_of(s, there) for s in listing.sources] == [
        key_of(s, place(str(photos))) for s in here
    ]
    assert place(f"file://{photos}") == replace(place(str(photos)), name=f"file://{photos}")
    told = {}
    for where, sources in ((there, listing.sources), (place(str(photos)), here)):
        for source in sources:
            try:
                found = read_photo(source, where)
            except PhotoError as error:
                found = str(error)
            told.setdefault(source.photo, []).append(found)
    assert all(one == other for one, other in told.values())


def test_what_is_not_there_is_told_without_secrets(s3):
    with pytest.raises(PhotoError, match="there is no such file or folder"):
        list_photos(place("s3://visits/nothing"))
    with pytest.raises(StoreError, match="name a folder, or an address like s3://"):
        place("nowhere://visits")
    assert "secret" not in place("s3://key:secret@visits/same").name


# --- the command -----------------------------------------------------------------------------


def without_ray(tmp_path, *arguments):
    """Runs the command where `import ray` fails."""
    (tmp_path / "blocked" / "ray").mkdir(parents=True)
    blocker = "raise ModuleNotFoundError(\"No module named 'ray'\", name='ray')"
    (tmp_path / "blocked" / "ray" / "__init__.py").write_text(blocker)
    return subprocess.run(
        [sys.executable, "-m", "heritage", "triage", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "blocked")},
        capture_output=True,
        text=True,
    )


def test_without_ray_the_command_says_what_to_install_and_the_local_engine_works(
    photos, weights_dir, tmp_path
):
    given = (photos / "chapel", "--weights", weights_dir, "--csv", tmp_path / "out.csv")
    done = without_ray(tmp_path, *given, "--engine", "ray", "--out", tmp_path / "answers")
    assert done.returncode == 1
    assert "pip install -r requirements-cluster.txt" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "answers").exists()
    shutil.rmtree(tmp_path / "blocked")
    assert without_ray(tmp_path, *given).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--engine", "ray"],
        ["--engine", "ray", "--out", "answers", "--pdf", "out.pdf"],
        ["--engine", "ray", "--out", "answers", "--survey", "Spring"],
        ["--engine", "ray", "--out", "answers", "--csv", "out.csv", "--site", "Old town"],
        ["--engine", "ray", "--out", "answers", "--csv", "out.csv", "--date", "2026-04-02"],
        ["--engine", "ray", "--out", "answers", "--photos-per-file", "0"],
        ["--engine", "ray", "--out", "answers", "another"],
        ["--csv", "out.csv", "--out", "answers"],
        ["--csv", "out.csv", "--ray-address", "localhost:6379"],
    ],
)
def test_wrong_use_is_told_apart(photos, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["triage", str(photos), *arguments])
    assert stopped.value.code == 2
    assert "error" in capsys.readouterr().err


# --- the actors ------------------------------------------------------------------------------


def test_a_photo_that_brings_its_worker_down_again_and_again_is_given_up_and_no_other(
    photos, tmp_path
):
    from heritage.actors import Decode, Mark, Work
    from heritage.cluster import missing_photos

    visit, out = place(str(photos)), place(str(tmp_path))
    work = Work(visit, out, "mobilenet_v2", None, 448, False)
    batch = missing_photos(list_folder(photos / "chapel").sources, visit, set())
    for _ in range(MOST_TRIES - 1):
        Mark(out, "chapel/2.jpg").set()  # by a worker that did not live to take it back
    decode = Decode(work, restarted=True)
    assert not any(read.row["error"] for read in decode.each(batch))
    for _ in range(MOST_TRIES):
        Mark(out, "chapel/2.jpg").set()
    errors = {read.row["photo"]: read.row["error"] for read in decode.each(batch)}
    assert "brought the program down" in errors.pop("2.jpg")
    assert errors == {"0.jpg": "", "1.jpg": "", "3.jpg": ""}


def test_a_photo_that_the_backbone_cannot_do_is_one_row_and_a_broken_one_ends_the_run(
    weights_dir, tmp_path, monkeypatch
):
    from heritage.actors import Answer, Decode, Work
    from heritage.cluster import missing_photos

    class Here(Work):
        """What an actor must know, with the checkpoint in a folder of this machine."""

        def inspector(self):
            return Inspector(self.checkpoint, folder=self.files)

    real = InferenceSession.run

    def run(session, outputs, given):
        if given["x"].shape[3] > 2 * given["x"].shape[2]:
            raise RuntimeError("no kernel")
        return real(session, outputs, given)

    monkeypatch.setattr(InferenceSession, "run", run)
    folder = tmp_path / "visit"
    for index, width in enumerate((900, 240, 900, 900)):
        crack_photo(folder / "mill" / f"{index}.jpg", size=(width, 180), seed=index)
    (folder / "mill" / "torn.jpg").write_bytes(crack_photo()[:700])
    visit = place(str(folder))
    work = Here(visit, place(str(tmp_path)), "mobilenet_v2", weights_dir, 448, False)
    decode, answer = Decode(work, restarted=False), Answer(work)
    batch = missing_photos(list_folder(folder).sources, visit, set())
    rows = answer.table(decode.each(batch)).to_pylist()
    words = "it could not be read by the backbone (no kernel); save it anew with another program"
    assert [row["error"] == words for row in rows] == [True, False, True, True, False]
    assert [row["damage_percent"] is None for row in rows] == [True, False, True, True, True]
    assert all(row["sha256"] for row in rows)
    with pytest.raises(RuntimeError, match=f"failed at {MOST_BROKEN} photos in a row.*no kernel"):
        answer.table(decode.each(batch))


# --- the cluster -----------------------------------------------------------------------------


def test_a_driver_that_is_killed_loses_no_photo_and_doubles_none(
    nodes, photos, local_csv, weights_dir, tmp_path
):
    out, table = tmp_path / "answers", tmp_path / "out.csv"
    arguments = (photos, "--out", out, "--csv", table, "--photos-per-file", 16)
    process = start(nodes, weights_dir, *arguments)
    wait_until(lambda: process.poll() is not None or answered(out), 900)
    process.send_signal(signal.SIGKILL)
    ended(process)
    before = answered(out)
    assert 0 < before < len(local_csv) - 1
    assert not table.exists()
    status, told = ended(start(nodes, weights_dir, *arguments, "--resume"))
    assert (status, csv_lines(table)) == (1, local_csv), told
    assert Answers(place(str(out))).doubled() == 0
    assert "mill/torn.jpg: the JPEG ends early" in told
    assert f"{len(local_csv) - 1} photos" in told
    assert f"{len(local_csv) - 1} of them" not in told


def test_a_lost_node_loses_no_photo_from_s3_and_doubles_none(
    nodes, photos, local_csv, weights_dir, tmp_path
):
    bucket = place("s3://visits").files
    for path in photos.rglob("*"):
        if path.is_file():
            with bucket.open_output_stream(f"visits/{path.relative_to(photos.parent)}") as stream:
                stream.write(path.read_bytes())
    doomed = nodes.add()
    table = tmp_path / "out.csv"
    arguments = ("--out", "s3://visits/answers", "--csv", table, "--photos-per-file", 16)
    process = start(nodes, weights_dir, "s3://visits/visit", *arguments)
    at_work = "ray::MapWorker"
    wait_until(lambda: process.poll() is not None or answered("s3://visits/answers"), 900)
    lost = tree(*doomed)
    assert any(at_work in command_of(worker) for worker in lost)
    kill(lost)
    assert answered("s3://visits/answers") < len(local_csv) - 1
    status, told = ended(process)
    assert (status, csv_lines(table)) == (1, local_csv), told
    assert Answers(place("s3://visits/answers")).doubled() == 0


def test_where_there_is_a_gpu_other_actors_decode_and_the_answers_are_the_same(
    nodes, photos, weights_dir, tmp_path
):
    """Ray believes in the GPU, PyTorch does not: the actors are those of a GPU."""
    nodes.add(gpus=1)
    local, table = tmp_path / "local.csv", tmp_path / "out.csv"
    arguments = ["triage", str(photos / "chapel"), "--detail", "--weights", str(weights_dir)]
    assert main([*arguments, "--csv", str(local)]) == 0
    out = ("--out", tmp_path / "answers", "--csv", table)
    status, told = ended(start(nodes, weights_dir, photos / "chapel", "--detail", *out))
    assert (status, csv_lines(table)) == (0, csv_lines(local)), told
