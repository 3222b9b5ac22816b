"""The app as a user starts it, in a process and with folders of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """A port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(home: Path, port: int = 0, **environment: str) -> Iterator[str]:
    """Serves the app with `home` as its home folder, its weights, runs and surveys in there.

    Yields:
        Its address, once it answers.

    Raises:
        RuntimeError: It does not start; the message is what it wrote.
    """
    port = port or free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true"]
    folders = {f"HERITAGE_{name.upper()}": str(home / name) for name in ("weights", "runs")}
    folders["HERITAGE_SURVEYS"] = str(home / "surveys")
    with (home / "app.log").open("w") as log:
        process = subprocess.Popen(  # nosec B603
            [*command, f"--server.port={port}"],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HOME": str(home)} | folders | environment,
        )
        (home / "app.pid").write_text(str(process.pid))
        url = f"http://localhost:{port}"
        try:
            _wait_for(url, process, home / "app.log")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        try:
            if httpx.get(f"{url}/_stcore/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            if process.poll() is not None:
                break
            time.sleep(0.5)
    raise RuntimeError(log.read_text())
