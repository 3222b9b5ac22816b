"""Nobody gets in who has not signed in: with a real OpenID Connect provider and a real browser."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import pytest
from conftest import PATIENCE_MS, ROOT
from helpers import crack_photo, wait_until
from playwright.sync_api import expect

from benchmarks.server import free_port, served
from heritage.access import AUDIT
from heritage.sources import list_folder
from heritage.surveys import SurveyStore

PAGES = ("", "Inspect", "Triage", "Surveys", "Backbones", "Train", "Guide")
SIGN_IN = "Surveys and photos here are for people your office knows"
USERS = (
    {"sub": "anna", "email": "anna@example.org", "email_verified": True, "roles": ["admin"]},
    {"sub": "vera", "email": "vera@example.org", "email_verified": True},
    {"sub": "mallory", "email": "anna@example.org", "email_verified": False},
)


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """The app with sign-in, the folder it keeps things in, and one survey of two photos."""
    home = tmp_path_factory.mktemp("office")
    shutil.copytree(ROOT / "weights", home / "weights")
    for index in range(2):
        crack_photo(home / "photos" / "tower" / f"{index}.jpg", seed=index)
    store = SurveyStore(home / "surveys")
    survey = store.create_survey("Secret tower")
    store.add_photos(survey.id, list_folder(home / "photos").sources, trusted=True)
    store.close()
    port, provider_port = free_port(), free_port()
    provider = f"http://localhost:{provider_port}"
    (home / ".streamlit").mkdir()
    (home / ".streamlit" / "secrets.toml").write_text(
        f"""
        [auth]
        redirect_uri = "http://localhost:{port}/oauth2callback"
        cookie_secret = "of this test only, and of no other"
        client_id = "heritage"
        client_secret = "of this test only"
        server_metadata_url = "{provider}/.well-known/openid-configuration"
        [access]
        role_claim = "roles"
        viewers = ["vera@example.org"]
        admins = ["anna@example.org"]
        everyone = "nobody"
        """
    )
    claims = [part for user in USERS for part in ("--user-claims", json.dumps(user))]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(provider_port), *claims]
    log = (home / "provider.log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ)
    try:
        wait_until(lambda: answers(f"{provider}/.well-known/openid-configuration"))
        with served(home, port) as url:
            yield url, home
    finally:
        process.terminate()
        process.wait(120)
        log.close()


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as found:
            return found.status == 200
    except OSError:
        return False


@pytest.fixture
def visit(chromium, office):
    """Opens the app as somebody; as nobody where no subject is given."""
    contexts = []

    def sign_in(subject=""):
        context = chromium.new_context(viewport={"width": 1280, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        page.goto(office[0])
        if subject:
            page.get_by_role("button", name="Sign in").click()
            page.locator("input[name=sub]").fill(subject)
            page.get_by_role("button", name=re.compile("authorize", re.I)).first.click()
        return page

    yield sign_in
    for context in contexts:
        context.close()


def test_every_page_asks_a_stranger_to_sign_in_and_shows_nothing_else(visit, office):
    page = visit()
    for name in PAGES:
        page.goto(f"{office[0]}/{name}")
        expect(page.get_by_text(SIGN_IN)).to_be_visible()
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        assert "Secret tower" not in page.locator("[data-testid=stMain]").inner_text()
        assert page.locator("input[type=file]").count() == 0
        assert page.get_by_role("link", name="Surveys").count() == 0


def choose_first(page):
    grid = page.locator("[data-testid=stDataFrame]").first
    expect(grid).to_be_visible()
    grid.click(position={"x": 20, "y": 52})
    expect(page.get_by_test_id("stBaseButton-primary").filter(has_text="Open")).to_be_enabled()


def test_an_admin_gets_in_may_delete_and_leaves_a_line(visit, office):
    url, home = office
    page = visit("anna")
    expect(page.get_by_text("anna@example.org")).to_be_visible()
    store = SurveyStore(home / "surveys")
    store.create_survey("Passing")
    store.close()
    page.goto(f"{url}/Surveys")
    choose_first(page)
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Delete it").click()
    audit = home / "surveys" / AUDIT
    wait_until(lambda: audit.exists() and audit.read_text().endswith("\n"))
    line = json.loads(audit.read_text().splitlines()[-1])
    assert (line["who"], line["what"]) == ("anna@example.org", "survey deleted")


def test_a_viewer_looks_and_changes_nothing(visit, office):
    url, _ = office
    page = visit("vera")
    expect(page.get_by_text("vera@example.org")).to_be_visible()
    page.goto(f"{url}/Triage")
    expect(page.get_by_text("That needs the role inspector")).to_be_visible()
    page.goto(f"{url}/Train")
    expect(page.get_by_text("you need the role admin")).to_be_visible()
    page.goto(f"{url}/Surveys")
    choose_first(page)
    expect(page.get_by_role("button", name="Delete …")).to_be_disabled()


def test_an_address_nobody_has_verified_opens_nothing(visit):
    page = visit("mallory")
    expect(page.get_by_text("nobody has given you access")).to_be_visible()
    assert page.get_by_role("link", name="Surveys").count() == 0


def test_who_signs_out_is_out(visit, office):
    page = visit("vera")
    page.get_by_role("button", name=re.compile("vera@example.org")).click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="End Session")).to_be_visible()  # the provider's
    page.goto(f"{office[0]}/Surveys")
    expect(page.get_by_text(SIGN_IN)).to_be_visible()
