"""The house rules: who may import what, and what must not load early."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "app.py", *sorted((ROOT / "pages").glob("*.py"))]
WEB = sorted((ROOT / "heritage" / "web").glob("*.py"))
CORE = sorted(p for p in (ROOT / "heritage").rglob("*.py") if "web" not in p.parts)
# Each may import those to its right, never those to its left.
ORDER = (
    *("cli", "cli_triage", "cluster", "actors", "answers", "worker", "handover", "triage"),
    *("surveys", "report", "spreadsheets", "buckets", "sources", "exports", "inspection"),
    *("quality", "engines", "scanning", "edges", "priority"),
    *("checkpoints", "inputs", "cascade"),
)
LOWEST = (
    "pointing",
    "heatmaps",
    "overlays",
    "classifiers",
    "figures",
    "cards",
    "photos",
    "exif",
    "backbones",
    "bands",
    "words",
    "methods",
    "errors",
)


def imported(path: Path) -> set[str]:
    """Modules imported anywhere in the file, those for type checking only left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda p: p.stem)
def test_only_pages_and_web_import_streamlit(path):
    assert not any(name.startswith(("streamlit", "heritage.web")) for name in imported(path))


def test_only_the_modules_of_the_cluster_import_ray_and_pyarrow():
    cluster = ("cluster", "actors", "answers", "buckets")
    for path in (*PAGES, *WEB, *CORE):
        if path.stem not in cluster:
            found = {name.removeprefix("heritage.").split(".")[0] for name in imported(path)}
            assert not found & {"ray", "pyarrow", *cluster}, path


def test_only_the_module_of_several_devices_imports_accelerate():
    for path in (*PAGES, *WEB, *CORE):
        if path.stem != "devices":
            assert not any(name.split(".")[0] == "accelerate" for name in imported(path)), path


@pytest.mark.parametrize("path", [*PAGES, *WEB], ids=lambda p: p.stem)
def test_pages_and_web_import_no_torch(path):
    assert not any(name.split(".")[0] in ("torch", "torchvision") for name in imported(path))


@pytest.mark.parametrize("module", (*ORDER, *LOWEST, "errors"))
def test_imports_run_one_way(module):
    names = (*ORDER, *LOWEST, "errors")
    above = {f"heritage.{name}" for name in names[: names.index(module)]}
    assert not imported(ROOT / "heritage" / f"{module}.py") & above


def test_nothing_below_the_commands_imports_training():
    for path in CORE:
        if path.stem not in ("cli", "__main__") and "training" not in path.parts:
            assert not any(name.startswith("heritage.training") for name in imported(path)), path


def test_only_photos_decodes_images():
    for path in CORE:
        if path.stem != "photos":
            source = path.read_text(encoding="utf-8")
            assert "Image.open" not in source, path.name


def test_the_first_page_needs_no_torch():
    code = (
        "import sys, heritage.web.home, heritage.web.photo_input, heritage.web.backbone_cards\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
