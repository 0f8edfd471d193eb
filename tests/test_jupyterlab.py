"""What a reader does: JupyterLab in a browser, a notebook opened, all cells run, a picture of it kept under runs/."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from handpose_lib.storage import runs_folder

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
if not Path(CHROMIUM).is_file():
    pytest.skip("Chromium is not installed (Debian: apt-get install chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: it is in the dev extra")

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "02_heatmaps.ipynb"  # a light one: it trains nothing
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a JupyterLab on a folder that holds a copy of the notebook without its outputs, and that copy."""
    notebook = nbformat.read(ROOT / "notebooks" / NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    copy = tmp_path / "notebooks" / NOTEBOOK
    copy.parent.mkdir()
    nbformat.write(notebook, copy)
    port = free_port()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HANDPOSE_PRESET": "quick",
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),  # whatever the user has set up stays out of it
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
        f"--ServerApp.root_dir={copy.parent}", "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    log = (tmp_path / "lab.log").open("w")
    server = subprocess.Popen(command, cwd=copy.parent, env=environment, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address, server, tmp_path / "lab.log")
        yield address, copy
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # its kernels too
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
        log.close()


def wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api/status", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def test_a_reader_opens_a_notebook_and_runs_all_its_cells(lab: tuple[str, Path]):
    address, copy = lab
    cells = len([c for c in nbformat.read(copy, as_version=4).cells if c.cell_type == "code" and c.source.strip()])
    picture = runs_folder() / "jupyterlab.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=QUIET)
        page = browser.new_page(viewport={"width": 1200, "height": 1600})
        page.set_default_timeout(180_000)
        page.goto(f"{address}/lab/tree/{NOTEBOOK}")
        page.locator(".jp-Toolbar-kernelName", has_text="Python 3").wait_for()  # a kernel is there
        news = page.get_by_role("button", name="No", exact=True)  # "get notified about Jupyter news?"
        if news.is_visible():
            news.click()
        page.screenshot(path=picture)
        choose(page, "Run", "Run All Cells")
        wait_until_saved_complete(page, copy, cells)
        page.locator(".jp-OutputArea-output img").first.scroll_into_view_if_needed()
        page.screenshot(path=picture)
        assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").count() == 0
        browser.close()
    executed = nbformat.read(copy, as_version=4)
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert "preset quick" in outputs[0]["text"]
    assert sum("image/jpeg" in o.get("data", {}) or "image/png" in o.get("data", {}) for o in outputs) >= 3
    assert picture.stat().st_size > 20_000


def choose(page, menu: str, entry: str) -> None:
    """Choose an entry of a menu; again if JupyterLab, still at work on its start, closes the menu."""
    for _ in range(5):
        page.locator(".lm-MenuBar-item").get_by_text(menu, exact=True).click()
        try:
            page.locator(".lm-Menu-item").get_by_text(entry, exact=True).click(timeout=10_000)
            return
        except playwright.TimeoutError:
            page.keyboard.press("Escape")
    pytest.fail(f"the menu {menu} has no entry {entry}: see {runs_folder() / 'jupyterlab.png'}")


def wait_until_saved_complete(page, copy: Path, cells: int, seconds: float = 300) -> None:
    """Save every second until the file holds all cells executed, or one of them failed."""
    done = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        page.wait_for_timeout(1000)
        page.keyboard.press("Control+s")
        page.wait_for_timeout(500)
        try:
            code = [c for c in nbformat.read(copy, as_version=4).cells if c.cell_type == "code"]
        except nbformat.reader.NotJSONError:  # it is being written
            continue
        done = [c for c in code if c.execution_count is not None]
        if len(done) == cells or any(o.output_type == "error" for c in done for o in c.outputs):
            return
    pytest.fail(f"{len(done)} of {cells} cells had run after {seconds:.0f} s")
