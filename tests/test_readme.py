"""What the README says can be done: its links lead somewhere, its commands exist, its snippet runs."""

import re
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from handpose_lib import cli

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINKS = sorted(set(re.findall(r"\]\((?!https?://|#)([^)#]+)", TEXT)))


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_to_a_file(link: str):
    assert (ROOT / link).is_file()


def test_every_chapter_is_in_the_table_with_its_module():
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        (row,) = (line for line in TEXT.splitlines() if line.startswith("|") and f"notebooks/{path.name}" in line)
        modules = re.findall(r"`([\w/]+(?:\.py|/))`", row)
        assert modules and all((ROOT / "handpose_lib" / module).exists() for module in modules)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^handpose ((?:data )?\w+)", TEXT, re.MULTILINE))))
def test_a_command_that_it_names_exists(command: str, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command.split(), "--help"])
    assert stopped.value.code == 0, f"there is no command handpose {command}"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)(?:[A-Z_]+=\w+ )?make (\w+)", TEXT, re.MULTILINE))))
def test_a_make_target_that_it_names_exists(target: str):
    rules = re.findall(r"^([\w ]+):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert target in {name for rule in rules for name in rule.split()}


def test_the_library_snippet_runs_as_it_stands(tmp_path: Path, monkeypatch):
    (snippet,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("my_hand.jpg", np.full((90, 120, 3), 127, np.uint8))
    names: dict = {}
    exec(compile(snippet, "README.md", "exec"), names)
    assert names["keypoints"].shape == (1, 21, 2) and names["confidence"].shape == (1, 21)
    assert names["image"].shape == (3, 224, 224) and names["heatmaps"].shape == (1, 21, 224, 224)


def test_the_figures_that_it_shows_come_with_the_repository():
    listed = subprocess.run(["git", "ls-files", "figures"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for link in LINKS:
        assert not link.startswith("figures/") or link in listed.split(), f"{link} is not in the repository"
