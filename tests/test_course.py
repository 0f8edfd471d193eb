import json
from pathlib import Path

import pytest
from trees import make_tree

from handpose_lib import course, datasets
from handpose_lib.course import PRESETS, check_claim, claims, session
from handpose_lib.settings import TrainSettings


def test_an_unknown_preset_is_an_error_that_lists_the_known(monkeypatch):
    monkeypatch.setenv("HANDPOSE_PRESET", "fast")
    with pytest.raises(ValueError, match="quick, full"):
        session.preset_name()


def test_start_says_preset_device_data_and_time(capsys):
    started = course.start(1)
    line, place = capsys.readouterr().out.strip().split("\n")
    assert line.startswith("Chapter 1 · preset quick · ") and "hands" in line and "min" in line
    assert place == "results go to runs/", "no path of this machine, since outputs are stored"
    assert started.dataset("test").num_hands == started.dataset("train").num_hands


def test_full_uses_freihand_where_it_is(monkeypatch, tiny_root: Path):
    monkeypatch.setenv("HANDPOSE_FREIHAND_ROOT", str(tiny_root))
    assert datasets.find_data("full") == (tiny_root, "FreiHAND")
    assert datasets.find_data("quick")[1] == "SynthHAND sample"


def test_a_data_set_of_another_origin_says_its_own_name(monkeypatch, tmp_path: Path):
    root = make_tree(tmp_path / "mine", hands=3, versions=["gs"], images=False)
    (root / "name.txt").write_text("My hands\n")
    monkeypatch.setenv("HANDPOSE_FREIHAND_ROOT", str(root))
    assert datasets.find_data("full") == (root, "My hands")
    assert datasets.data_name("quick") == "SynthHAND sample"


def test_full_is_the_rebuilt_systems_size():
    full = PRESETS["full"]
    assert (full.framing.image_size, full.width, full.depth, full.sigma_end) == (128, 64, 3, 2.0)
    assert isinstance(full, TrainSettings)


DATA_NAMES = ("SynthHAND sample", "SynthHAND", "FreiHAND")
BOUNDS = {"quick": {"SynthHAND sample": [1, 2]}, "full": {"FreiHAND": [3, 4]}}


@pytest.fixture
def one_claim(monkeypatch, tmp_path: Path) -> None:
    file = tmp_path / "claims.json"
    entry = {"says": "A number is", "unit": "px", "notebook": "01_freihand.ipynb", "bounds": BOUNDS}
    file.write_text(json.dumps({"number": entry}))
    monkeypatch.setattr(claims, "CLAIMS_FILE", file)


def test_a_claim_within_its_bounds_prints_one_fixed_sentence(one_claim, capsys):
    for value in (1, 1.5, 2):
        check_claim("number", value)
    assert set(capsys.readouterr().out.splitlines()) == {"Claim 'number' holds. A number is between 1 and 2 px."}


@pytest.mark.parametrize("value", [0.99, 2.01, float("nan")])
def test_a_claim_out_of_bounds_fails(one_claim, value: float):
    with pytest.raises(AssertionError, match="claim 'number' fails: measured"):
        check_claim("number", value)


def test_an_unknown_claim_is_an_error(one_claim):
    with pytest.raises(KeyError, match="no claim 'nummer'"):
        check_claim("nummer", 1)


def test_a_claims_bounds_are_those_of_preset_and_data(one_claim, monkeypatch, tiny_root, bundled_root, capsys):
    monkeypatch.setenv("HANDPOSE_PRESET", "full")
    monkeypatch.setenv("HANDPOSE_FREIHAND_ROOT", str(tiny_root))
    check_claim("number", 3.5)
    assert capsys.readouterr().out == "Claim 'number' holds. A number is between 3 and 4 px.\n"
    with pytest.raises(AssertionError, match=r"measured 1\.5"):
        check_claim("number", 1.5)
    monkeypatch.setenv("HANDPOSE_FREIHAND_ROOT", str(bundled_root))  # rendered hands, whatever the variable's name
    check_claim("number", 99.123)
    said = "A number is 99.1 px here. Nothing is claimed about it for preset full on SynthHAND.\n"
    assert capsys.readouterr().out == said


def test_freihand_may_lie_one_folder_too_deep(monkeypatch, tmp_path: Path):
    inner = make_tree(tmp_path / "FreiHAND_pub_v2" / "FreiHAND_pub_v2", hands=3, images=False)
    monkeypatch.setenv("HANDPOSE_FREIHAND_ROOT", str(inner.parent))
    assert datasets.find_data("full") == (inner, "FreiHAND")
    monkeypatch.setenv("HANDPOSE_FREIHAND_ROOT", str(tmp_path / "nowhere"))
    assert datasets.freihand_root() == tmp_path / "nowhere", "an error must name the folder that was asked for"


def test_every_claim_is_proved_in_the_notebook_that_it_names():
    notebooks = Path(__file__).parent.parent / "notebooks"
    for name, claim in claims.load_claims().items():
        cells = json.loads((notebooks / claim["notebook"]).read_text())["cells"]
        code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        assert f'check_claim("{name}"' in code, f"{claim['notebook']} does not check {name}"
        assert set(claim["bounds"]) <= set(PRESETS) and claim["says"]
        assert {data for bounds in claim["bounds"].values() for data in bounds} <= set(DATA_NAMES)
