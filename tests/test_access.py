import json
import signal
import threading
from pathlib import Path

import pytest
import streamlit as st
from streamlit import config
from streamlit.testing.v1 import AppTest

from heritage.access import AUDIT, CHANGES, GuardedStore, Role, Visitor, name_of, note, role_of
from heritage.cards import read_card
from heritage.errors import AccessError, StoreError
from heritage.logs import LOGS
from heritage.surveys import SurveyStore
from heritage.web import access

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["app.py", *(f"pages/{path.name}" for path in sorted((ROOT / "pages").glob("*.py")))]
READING = {
    *("close", "surveys", "survey", "find_survey", "photo", "twins", "photo_bytes", "buildings"),
    *("run", "runs", "unfinished_runs", "pending", "inspected", "alive", "state", "rows", "heat"),
    "failures",
    *("has_verdicts", "verdicts", "visits", "readers", "leftovers"),
}
WORKERS = {"settle_incoming", "record", "claim", "heartbeat", "release", "forget_unused"}


def test_every_method_of_the_store_is_known_to_change_something_or_not():
    public = {name for name in vars(SurveyStore) if not name.startswith("_")}
    assert public == READING | WORKERS | set(CHANGES)


def test_no_page_calls_what_only_workers_may():
    for path in (ROOT / "heritage" / "web").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert not any(f".{name}(" in source for name in WORKERS), path.name


@pytest.mark.parametrize("name", CHANGES)
def test_who_has_a_lesser_role_is_refused_before_anything_happens(name, tmp_path):
    lesser = Role(CHANGES[name] - 1)
    store = GuardedStore(SurveyStore(tmp_path), Visitor("vera", lesser))
    with pytest.raises(AccessError, match=f"needs the role {CHANGES[name].name.lower()}"):
        getattr(store, name)(1, 2, 3)
    assert store.surveys() == []
    assert not (tmp_path / AUDIT).exists()


def test_verdicts_and_deletions_leave_a_line_of_who_and_what(tmp_path):
    store = GuardedStore(SurveyStore(tmp_path), Visitor("anna@example.org", Role.ADMIN))
    survey = store.create_survey("Tower")
    store.add_upload(survey.id, "a.jpg", "", b"x", "a" * 64, "jpg")
    store.give_verdict([1], "damaged", "a crack\nby the door", "anna@example.org")
    store.delete_survey(survey.id)
    lines = [json.loads(line) for line in (tmp_path / AUDIT).read_text().splitlines()]
    assert [line["what"] for line in lines] == ["verdict", "survey deleted"]
    assert all(line["who"] == "anna@example.org" and line["at"] for line in lines)
    assert lines[0]["photos"] == [1]
    assert lines[0]["verdict"] == "damaged"
    assert (lines[1]["survey"], lines[1]["survey_name"]) == (survey.id, "Tower")


def test_a_deletion_that_was_refused_is_told_from_one_that_was_done(tmp_path, weights_dir):
    store = GuardedStore(SurveyStore(tmp_path), Visitor("anna@example.org", Role.ADMIN))
    survey = store.create_survey("Tower")
    run = store.create_run(survey.id, read_card(weights_dir / "mobilenet_v2.json"))
    assert SurveyStore.claim(store, run.id, "worker")
    with pytest.raises(StoreError, match="being triaged"):
        store.delete_survey(survey.id)
    with pytest.raises(StoreError):
        store.delete_survey(99)
    lines = [json.loads(line) for line in (tmp_path / AUDIT).read_text().splitlines()]
    assert [line["what"].split(",")[0] for line in lines] == [
        "survey deleted",
        "survey deleted: not done",
    ]


def test_a_line_that_a_full_disk_cut_off_is_an_error_and_spoils_no_other(tmp_path):
    resource = pytest.importorskip("resource")
    note(tmp_path, Visitor("anna"), "verdict")
    size = (tmp_path / AUDIT).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        with pytest.raises(StoreError, match=r"audit\.jsonl"):
            note(tmp_path, Visitor("anna"), "survey deleted")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, was)
    note(tmp_path, Visitor("ben"), "verdict")
    first, torn, last = (tmp_path / AUDIT).read_text().splitlines()
    assert [json.loads(line)["who"] for line in (first, last)] == ["anna", "ben"]
    assert len(torn) == 20


def test_what_cannot_be_written_down_does_not_happen(tmp_path):
    store = GuardedStore(SurveyStore(tmp_path), Visitor())
    survey = store.create_survey("Tower")
    (tmp_path / AUDIT).mkdir()
    with pytest.raises(StoreError, match=r"audit\.jsonl"):
        store.delete_survey(survey.id)
    assert store.survey(survey.id).name == "Tower"


def test_lines_written_at_once_stay_whole(tmp_path):
    def write(who):
        for number in range(50):
            note(tmp_path, Visitor(who), "verdict", number=number, text="x" * 500)

    threads = [threading.Thread(target=write, args=(f"{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in (tmp_path / AUDIT).read_text().splitlines()]
    assert len(lines) == 200


ANNA = {"sub": "1", "email": "Anna@Example.org", "email_verified": True, "groups": ["inspector"]}


@pytest.mark.parametrize(
    ("claims", "settings", "role"),
    [
        (ANNA, {}, Role.VIEWER),
        (ANNA, {"everyone": "nobody"}, Role.NOBODY),
        (ANNA, {"admins": ["anna@example.org"]}, Role.ADMIN),
        (ANNA, {"inspectors": ["1"], "everyone": "nobody"}, Role.INSPECTOR),
        (ANNA, {"role_claim": "groups"}, Role.INSPECTOR),
        (ANNA | {"groups": "admin"}, {"role_claim": "groups"}, Role.ADMIN),
        (ANNA | {"groups": ["staff", 7]}, {"role_claim": "groups"}, Role.VIEWER),
        (ANNA | {"email_verified": False}, {"admins": ["anna@example.org"]}, Role.VIEWER),
        (ANNA | {"email_verified": "false"}, {"admins": ["anna@example.org"]}, Role.VIEWER),
        ({"sub": ""}, {"admins": [""]}, Role.VIEWER),
        ({}, {"viewers": ["x"], "everyone": "nobody"}, Role.NOBODY),
        (ANNA | {"groups": None}, {"role_claim": "groups"}, Role.VIEWER),
        (ANNA | {"groups": 3}, {"role_claim": "groups"}, Role.VIEWER),
        (ANNA | {"sub": "anna@example.org"}, {"admins": ["anna@example.org"]}, Role.ADMIN),
        (ANNA | {"email": "strauß@example.org"}, {"admins": ["strauss@example.org"]}, Role.VIEWER),
        (ANNA | {"iss": "https://a"}, {"admins": ["https://a|1"]}, Role.ADMIN),
        (ANNA | {"iss": "https://b"}, {"admins": ["https://a|1"]}, Role.VIEWER),
    ],
)
def test_roles_come_from_lists_or_a_claim(claims, settings, role):
    assert role_of(claims, settings) == role


def test_with_several_providers_a_subject_counts_with_its_issuer_only():
    claims = ANNA | {"iss": "https://a"}
    assert role_of(claims, {"admins": ["1"]}, providers=2) == Role.VIEWER
    assert role_of(claims, {"admins": ["https://a|1"]}, providers=2) == Role.ADMIN
    assert role_of(claims, {"admins": ["anna@example.org"]}, providers=2) == Role.ADMIN
    as_subject = claims | {"sub": "anna@example.org"}
    assert role_of(as_subject, {"admins": ["anna@example.org"]}, providers=2) == Role.ADMIN
    del claims["email_verified"]
    assert role_of(claims, {"admins": ["anna@example.org"]}, providers=2) == Role.VIEWER
    assert name_of(claims, providers=2) == "https://a|1"


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        (ANNA, "Anna@Example.org"),
        (ANNA | {"email_verified": False}, "1"),
        ({"sub": "7"}, "7"),
        ({"email": "anna@example.org", "email_verified": False}, "unnamed"),
    ],
)
def test_nobody_is_called_by_an_address_that_is_not_known_to_be_theirs(claims, name):
    assert name_of(claims) == name


@pytest.mark.parametrize(
    "settings",
    [
        *({"admin": ["anna"]}, {"admins": "anna"}, {"everyone": "boss"}, {"inspectors": [1]}),
        *({"viewers": 3}, {"role_claim": ["groups"]}),
    ],
)
def test_a_setting_that_makes_no_sense_lets_nobody_in(settings):
    with pytest.raises(StoreError, match=r"\[access\]"):
        role_of(ANNA, settings)


AUTH = {"redirect_uri": "http://localhost/oauth2callback", "cookie_secret": "x" * 32}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("nobody_signed_in_yet")
def test_with_sign_in_configured_a_page_shows_a_stranger_nothing(page, tmp_path):
    app = AppTest.from_file(str(ROOT / page), default_timeout=300)
    app.secrets["auth"] = AUTH
    app.run()
    assert not app.exception
    assert [button.label for button in app.button] == ["Sign in"]
    assert not app.file_uploader
    assert not app.metric
    assert not app.dataframe
    assert {path.name for path in tmp_path.iterdir()} <= {LOGS}


@pytest.fixture
def nobody_signed_in_yet(monkeypatch, tmp_path):
    st.cache_resource.clear()
    monkeypatch.setattr(access, "_seen", set())
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path))


def home(**secrets):
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=300)
    for name, value in secrets.items():
        app.secrets[name] = value
    return app.run()


def is_closed(app):
    return [title.value for title in app.title] == ["This app is not set up"]


@pytest.mark.usefixtures("nobody_signed_in_yet")
def test_sign_in_that_is_lost_while_the_server_runs_lets_nobody_in():
    assert not is_closed(home())
    assert [button.label for button in home(auth=AUTH).button] == ["Sign in"]
    assert is_closed(home())
    assert is_closed(home(access={"admins": ["anna"]}))


@pytest.mark.usefixtures("nobody_signed_in_yet")
def test_roles_that_are_lost_while_the_server_runs_let_nobody_in():
    home(auth=AUTH, access={"everyone": "nobody"})
    assert is_closed(home(auth=AUTH))
    assert not is_closed(home(auth=AUTH, access={"everyone": "nobody"}))


@pytest.mark.usefixtures("nobody_signed_in_yet")
def test_a_file_of_secrets_that_is_no_text_lets_nobody_in(tmp_path, monkeypatch):
    secrets = tmp_path / "secrets.toml"
    secrets.write_bytes("[auth]".encode("utf-16"))
    before = st.get_option("secrets.files")
    config.set_option("secrets.files", [str(secrets)])
    try:
        assert is_closed(home())
    finally:
        config.set_option("secrets.files", before)


@pytest.mark.usefixtures("nobody_signed_in_yet")
def test_roles_without_sign_in_let_nobody_in():
    assert is_closed(home(access={"admins": ["anna"]}))
    assert is_closed(home(auth="x"))
    assert not is_closed(home(other={"key": "of another app"}))
    assert not is_closed(home(access={"token": "of another app"}))


@pytest.mark.usefixtures("nobody_signed_in_yet")
def test_where_sign_in_is_required_nobody_gets_in_without(monkeypatch):
    monkeypatch.setenv("HERITAGE_SIGN_IN", "required")
    assert is_closed(home())
    assert [button.label for button in home(auth=AUTH).button] == ["Sign in"]
