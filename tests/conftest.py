from __future__ import annotations

import os
import sys

import pytest
import torch
from helpers import POSTGRESQL, labelled_folder, own_database, save_untrained
from sqlalchemy import create_engine, text

# Small networks gain nothing from more threads, which on a busy machine wait for each other.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the commands that tests start


@pytest.fixture(autouse=True)
def what_pages_keep_ends_with_the_test():
    """A page of the next test must not use the store of this one."""
    yield
    streamlit = sys.modules.get("streamlit")
    if streamlit:
        streamlit.cache_resource.clear()
        streamlit.cache_data.clear()


@pytest.fixture
def toy_data(tmp_path):
    """A folder with damaged/ and sound/: four buildings and 12 photos of 240 × 180 px in each."""
    return labelled_folder(tmp_path / "toy")


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory):
    """A folder with one randomly initialised checkpoint, mobilenet_v2; tests must not change it."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_untrained(folder, "mobilenet_v2", auroc=0.5)
    return folder


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRESQL else [])])
def database_url(request):
    """The URL of an empty database; empty for the default, SQLite in the store's folder."""
    if request.param == "sqlite":
        return ""
    url = own_database()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture
def open_store(tmp_path, database_url):
    """Opens the one store of this test, anew on each call."""
    from heritage.surveys import SurveyStore

    opened = []

    def open_one():
        opened.append(SurveyStore(tmp_path / "surveys", database_url))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store):
    """An empty store of surveys."""
    return open_store()
