from __future__ import annotations

import os

import pytest
import torch
from helpers import labelled_folder, save_untrained

# Small networks gain nothing from more threads, which on a busy machine wait for each other.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the commands that tests start


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
