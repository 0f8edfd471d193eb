"""Colab's own versions and the lowest allowed ones: the wheel may be installed over them and changes none of them."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "tests" / "constraints-colab.txt"
COLAB = dict(line.split("==") for line in FILE.read_text(encoding="utf-8").splitlines() if "==" in line)


def requirements(wheel: Path) -> list[Requirement]:
    """What the wheel asks for without its extras."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = re.findall(r"^Requires-Dist: (.+)$", archive.read(name).decode(), re.MULTILINE)
    return [each for each in map(Requirement, lines) if not each.marker]


def test_colabs_versions_satisfy_what_the_wheel_asks_for(wheel: Path):
    asked = requirements(wheel)
    assert {"torch", "torchvision", "numpy", "opencv-python"} <= {each.name for each in asked}
    for each in asked:
        if each.name in COLAB:
            assert COLAB[each.name] in each.specifier, f"installing the wheel on Colab would change {each.name}"


def test_no_version_is_allowed_that_was_built_for_another_numpy(wheel: Path):
    """`make test-lowest` met it: numpy >= 2 is asked for, and this OpenCV can't be imported with it."""
    (opencv,) = (each for each in requirements(wheel) if each.name == "opencv-python")
    assert "4.10.0.82" not in opencv.specifier and "4.10.0.84" in opencv.specifier


@pytest.mark.parametrize("python", ["3.13", "3.11"])
def test_the_installers_plan_changes_none_of_colabs_packages(wheel: Path, python: str):
    uv = shutil.which("uv") or Path(sys.executable).with_name("uv")
    if not Path(uv).exists():
        pytest.skip("uv is not here, whose plan this reads")
    command = [str(uv), "pip", "compile", "-", "--quiet", "--python-version", python, "--constraints", str(FILE)]
    asked = f"handpose-lib @ {wheel.as_uri()}\n"
    done = subprocess.run(
        command, input=asked, capture_output=True, text=True, env=os.environ | {"UV_SYSTEM_CERTS": "1"}, timeout=300
    )
    if re.search(r"error sending request|Failed to fetch|Connection refused|dns error", done.stderr):
        pytest.skip("the package registry can't be reached, and without it there is no plan")
    assert done.returncode == 0, done.stderr
    plan = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", done.stdout, re.MULTILINE))
    changed = {name: version for name, version in plan.items() if COLAB.get(name, version) != version}
    assert plan["torch"] == COLAB["torch"] and plan["numpy"] == COLAB["numpy"] and not changed
