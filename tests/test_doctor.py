import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from helpers import save_untrained

from heritage import doctor
from heritage.cli import main
from heritage.doctor import examine
from heritage.surveys import SurveyStore

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    save_untrained(tmp_path / "weights", auroc=0.5)
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path / "surveys"))
    monkeypatch.delenv("HERITAGE_DATABASE_URL", raising=False)
    monkeypatch.setattr(doctor, "LEAST_FREE_GB", 0.0)  # whatever room this computer has


def wrong():
    return {found.what: found for found in examine() if not found.good}


def test_a_sound_installation_is_called_so(capsys):
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "WRONG" not in told
    assert "weights: mobilenet_v2" in told
    assert "HEIF" in told


def test_a_checkpoint_with_another_hash_is_named_with_what_to_do(tmp_path, capsys):
    path = tmp_path / "weights" / "mobilenet_v2.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "WRONG  weights: mobilenet_v2.safetensors: its hash is not the one in its card" in told
    assert "restore both files together" in told


def test_no_checkpoint_at_all_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(tmp_path))
    assert "train" in wrong()["weights"].advice


def test_a_database_that_is_gone_is_told_and_the_rest_is_still_looked_at(monkeypatch):
    monkeypatch.setenv("HERITAGE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    found = wrong()
    assert set(found) == {"database"}
    assert found["database"].advice


def test_a_folder_for_surveys_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path / "file" / "surveys"))
    assert {"database", "disk"} <= set(wrong())


def test_a_library_of_another_version_is_named(tmp_path, monkeypatch):
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("# comment\nnumpy>=99\nno-such-library-at-all>=1  # why\npandas\n")
    monkeypatch.setattr("heritage.doctor.ROOT", tmp_path)
    words = wrong()["libraries"].words
    assert "numpy is " in words and "wanted >=99" in words
    assert "no-such-library-at-all is missing" in words
    assert "pandas" not in words


def test_it_answers_although_a_card_is_garbage(tmp_path):
    (tmp_path / "weights" / "broken.json").write_text(json.dumps({"name": "broken"}))
    done = subprocess.run(
        [sys.executable, "-m", "heritage", "doctor"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "WRONG  weights: broken.json" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_leftovers_are_told_and_removed_only_when_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path))
    with closing(SurveyStore()) as store:
        kept = store.create_survey("Tower").id
        store.add_upload(kept, "1.jpg", "", b"kept", "e" * 64, "jpg")
        store.files.keep(b"left by a process that was killed", "f" * 64, "jpg")
        lost = store.files.path("f" * 64, "jpg")
        os.utime(store.files.path("e" * 64, "jpg"), (0, 0))
    os.utime(lost, (0, 0))
    main(["doctor"])
    assert "leftovers: 1 files" in capsys.readouterr().out
    assert lost.exists()
    assert main(["doctor", "--remove-leftovers"]) == 0
    assert "removed 1 files" in capsys.readouterr().out
    assert not lost.exists()


def test_with_another_database_than_the_folders_nothing_is_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path))
    with closing(SurveyStore()) as store:
        store.add_upload(store.create_survey("Tower").id, "1.jpg", "", b"kept", "e" * 64, "jpg")
        kept = store.files.path("e" * 64, "jpg")
        archive = store.files.incoming(1, 9)
        archive.write_bytes(b"archive")
    for path in (kept, archive):
        os.utime(path, (0, 0))
    monkeypatch.setenv("HERITAGE_DATABASE_URL", f"sqlite:///{tmp_path}/another.sqlite3")
    assert main(["doctor", "--remove-leftovers"]) == 1
    assert "this database knows none of the 2 files" in capsys.readouterr().err
    assert kept.exists() and archive.exists()


def test_one_kept_photo_tells_that_the_database_is_the_right_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path))
    with closing(SurveyStore()) as store:
        store.add_upload(store.create_survey("Tower").id, "1.jpg", "", b"new", "e" * 64, "jpg")
        store.files.keep(b"left by a process that was killed", "f" * 64, "jpg")
        lost = store.files.path("f" * 64, "jpg")
    os.utime(lost, (0, 0))
    assert main(["doctor", "--remove-leftovers"]) == 0
    assert not lost.exists()
