from __future__ import annotations

import pytest
import torch
from helpers import labelled_folder, save_untrained


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
