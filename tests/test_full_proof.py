import json
import sys
from pathlib import Path

import pytest

from handpose_lib import storage

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import full_proof  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def test_the_proof_of_the_full_recipe_runs_on_a_small_tree(bundled_root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HANDPOSE_CACHE")
    out = storage.runs_folder() / "full_proof_of_a_test.json"
    monkeypatch.setattr(sys, "argv", ["full_proof.py", "--json", str(out), "--hands", "60", "--width", "4"])
    try:
        full_proof.main()
        stages = json.loads(out.read_text())["stages"]
    finally:
        out.unlink(missing_ok=True)
    assert stages[0]["images"] == 240
    assert stages[2]["train"] + stages[2]["val"] + stages[2]["test"] == 60
    assert stages[4]["images"] == 4 * stages[3]["images"] == 4 * stages[2]["train"]
    assert stages[4]["written_mb"] == pytest.approx(stages[4]["images"] * 3 * 128 * 128 / 1e6, abs=1)
    assert stages[5]["written_mb"] == 0 and stages[-1]["losses_finite"]
    assert not list(storage.runs_folder().glob("full-proof-*"))


def test_the_stored_proof_is_of_freihands_size():
    stages = json.loads((ROOT / "figures" / "full_proof.json").read_text())["stages"]
    assert stages[0]["images"] == 130_240
    assert (stages[2]["train"], stages[2]["val"], stages[2]["test"]) == (27_440, 2_560, 2_560)
    assert stages[4]["images"] == 4 * stages[3]["images"] == 109_760
    assert stages[-1]["losses_finite"] and stages[-1]["steps"] >= 3
