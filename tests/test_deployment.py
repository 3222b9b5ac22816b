"""The deployment notes say what the code does."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTES = (ROOT / "docs" / "deployment.md").read_text()


def test_the_notes_name_every_variable_of_the_environment():
    code = "".join(path.read_text() for path in (ROOT / "heritage").rglob("*.py"))
    read = set(re.findall(r'environ(?:\.get\(|\[)"(HERITAGE_\w+)"', code))
    assert len(read) > 4
    assert read <= set(re.findall(r"^\| `(HERITAGE_\w+)`", NOTES, re.MULTILINE))


def test_nginx_lets_through_what_the_server_takes_and_hardly_more():
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    nginx = (ROOT / "deploy" / "nginx.conf").read_text()
    (limit,) = re.findall(r"client_max_body_size (\d+)m;", nginx)
    assert int(limit) == settings["server"]["maxUploadSize"] + 1


def test_the_image_is_made_of_files_that_are_there():
    copied = re.findall(r"^COPY (\S+) ", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name


def test_unit_and_image_name_only_variables_that_are_explained():
    for name in ("heritage.service", "Dockerfile"):
        for variable in re.findall(r"HERITAGE_\w+", (ROOT / "deploy" / name).read_text()):
            assert f"| `{variable}` |" in NOTES
