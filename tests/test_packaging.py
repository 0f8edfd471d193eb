import re
import subprocess
import sys
import tokenize
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower()


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_environment_yml_asks_for_what_pyproject_asks_for():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["notebooks"]
    assert sorted(pip) == sorted([*wanted, "--editable ."])
    assert f"python{PROJECT['requires-python']}" in environment["dependencies"]


@pytest.mark.parametrize("file", ["pyproject.toml", "environment.yml"])
def test_every_package_states_its_reason(file: str):
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["notebooks"]
    for requirement in wanted:
        (line,) = (line for line in lines if requirement in line)
        assert re.search(r"#\s*\S+", line), f"{file}: {requirement} has no reason"


def test_tested_versions_satisfy_the_bounds():
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    )
    for requirement in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        name, bound = requirement.split(">=")
        version = pinned[name.lower()]
        assert [int(p) for p in version.split(".")] >= [int(p) for p in bound.split(".")], f"{name} {version} < {bound}"


def test_no_file_names_a_package_registrys_host():
    hosts = re.compile("py" + r"pi\.org|python" + "hosted|registry\\.npm" + "js", re.IGNORECASE)
    for path in tracked_files():
        if path.suffix in {".py", ".toml", ".yml", ".txt", ".md", ".ipynb", ".cfg", ""}:
            assert not hosts.search(path.read_text(encoding="utf-8")), path


def test_importing_the_library_brings_in_no_notebook_machinery():
    machinery = "('nbclient', 'nbformat', 'IPython', 'jupyterlab')"
    code = f"import sys, handpose_lib.cli; print(*[m for m in {machinery} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.mark.parametrize(("command", "unneeded"), [
    ("camera", ("matplotlib", "seaborn", "torchvision", "pandas")),
    ("annotate", ("matplotlib", "seaborn", "torchvision")),
    ("predict", ("torchvision",)),
    ("web", ("torch", "matplotlib")),
])  # fmt: skip
def test_commands_bring_in_nothing_large_that_they_do_not_need(command: str, unneeded: tuple[str, ...]):
    """Each of these takes a second or two to import, while somebody waits in front of a camera."""
    code = f"import sys, handpose_lib.commands.{command}; print(*[m for m in {unneeded} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


FLOORS = [
    {
        "layout",
        "keypoints",
        "fields",
        "heatmaps",
        "losses",
        "storage",
        "reading",
        "checksums",
        "pictures",
        "devices",
        "memory",
        "smoothing",
        "stopping",
        "calibration",
        "onnx_graph",
    },
    {"framing", "cache", "zips", "track", "video", "label_parts", "inputs", "chains"},
    {"download", "trusted", "annotations", "coco", "decoding"},
    {"unet", "stacked", "augment", "appearance", "freihand", "labels", "keypoint_folder", "metrics", "synthhand"},
    {"loader", "settings", "weights", "datasets"},
    {"runs", "evaluate", "train", "predict", "conventional", "onnx_look"},
    {"plots", "plot_inputs", "export"},
    {"recipes", "web"},
    {"course"},
    {"bench", "bench_predict", "figures", "answers", "annotate"},
    {"commands"},
    {"cli"},
]


def imports_of(path: Path) -> set[str]:
    pattern = r"^\s*(?:from|import) handpose_lib(?:\.(\w+)| import (\w+(?:, \w+)*))"
    found = re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    return {name for dotted, listed in found for name in ([dotted] if dotted else listed.split(", "))}


def test_imports_run_one_way():
    floor_of = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    package = ROOT / "handpose_lib"
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).parts[0].removesuffix(".py")
        if name == "__init__":
            continue
        for other in imports_of(path) - {name, "__version__"}:
            allowed = floor_of[other] < floor_of[name] or (floor_of[other] == floor_of[name] and floor_of[name] >= 3)
            ground = name == "storage" or other in ("storage", "fields", "reading")
            assert allowed or ground, f"{path.name} imports {other}"


def test_the_map_in_contributing_names_every_module():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [a-z ]+ \| (.*) \| .* \|$", text.split("## Conventions")[0], re.MULTILINE)
    named = set(re.findall(r"`(\w+)/?`", " ".join(rows)))
    there = {path.stem for path in (ROOT / "handpose_lib").iterdir() if path.suffix == ".py" or path.is_dir()}
    there = {name for name in there if not name.startswith("__") and name != "bundled"}
    assert named == there, f"CONTRIBUTING.md's table of floors and the package differ in {named ^ there}"
    assert {name for floor in FLOORS for name in floor} == there


def test_only_the_command_line_and_the_bench_know_course_and_recipes():
    for path in sorted((ROOT / "handpose_lib").glob("*.py")):
        if path.stem not in ("cli", "bench"):
            assert not imports_of(path) & {"course", "recipes"}, f"{path.name} imports what stands above it"


def test_no_module_is_longer_than_350_lines():
    modules = sorted((ROOT / "handpose_lib").rglob("*.py"))
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    assert {str(path): lines for path, lines in lengths.items() if lines > 350} == {}


def test_the_side_of_freihands_images_is_written_once():
    written = []
    for path in sorted((ROOT / "handpose_lib").rglob("*.py")):
        if "exercises" not in path.parts:  # whose formulas are the reader's
            with tokenize.open(path) as file:
                tokens = list(tokenize.generate_tokens(file.readline))
            written += [path.name for token in tokens if token.type == tokenize.NUMBER and token.string == "224"]
    assert written == ["layout.py"]


def test_sections_of_docstrings_have_one_form():
    """`Returns:` stands alone on its line, as Args and Raises do, and what it says is indented below."""
    inline = re.compile(r"^ *(?:Args|Returns|Raises|Shape): *\S.*", re.MULTILINE)
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "handpose_lib").rglob("*.py"))
        for line in inline.findall(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_what_comes_in_each_is_counted_per_not_a():
    counted = re.compile(
        r"\b(?:one|once|two|three|four|samples|rows|columns|lines) an? (?:sample|hand|image|keypoint|map|item)\b"
    )
    found = [
        f"{path.relative_to(ROOT)}: {match}"
        for path in tracked_files()
        if path.suffix in {".py", ".md"}
        for match in counted.findall(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_the_wheel_holds_the_bundled_hands_and_the_claims(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "bundled/synthhand.zip",
        "bundled/augmentation.csv",
        "bundled/seeds_quick.csv",
        "bundled/losses.csv",
        "course/claims.json",
        "synthhand/hand_asset.npz",
    ):
        assert f"handpose_lib/{needed}" in names
    assert not [name for name in names if name.startswith(("tests", "notebooks", "runs"))]


def test_an_installed_wheel_finds_and_unpacks_the_sample_in_the_users_cache(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "from handpose_lib.synthhand import sample_root; print(sample_root())"
    # -P and a foreign folder: the checkout must not be found by accident.
    environment = {"PYTHONPATH": str(tmp_path / "site"), "HANDPOSE_CACHE": str(tmp_path / "cache"), "PATH": ""}
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    root = Path(result.stdout.strip())
    assert root.is_relative_to(tmp_path / "cache") and (root / "training_K.json").is_file()
