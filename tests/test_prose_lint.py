"""The finder of unsupported numbers finds what it must; then it reads every notebook and the README."""

import json
from pathlib import Path

import pytest
from prose_lint import (
    Evidence,
    checked_cells,
    measured,
    notebook_sentences,
    sentences_of,
    unsupported,
)

from handpose_lib.course.claims import load_claims

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def found(markdown: str, **evidence) -> list[tuple[str, str]]:
    """The unsupported figures of a text, with their units."""
    sentences = sentences_of(markdown)
    held = Evidence(**evidence)
    return [figure for s in sentences for figure in measured(s) if unsupported([s], held)]


@pytest.mark.parametrize(
    ("planted", "figures"),
    [
        ("Our network is 3.4 px off.", [("3.4", "px")]),
        ("It errs by 13.3 pixels on average.", [("13.3", "px")]),
        ("The test hands score 48 %.", [("48", "%")]),
        ("Fingertips lose 9.5 percentage points.", [("9.5", "%")]),
        ("The loader is 11× as fast.", [("11", "×")]),
        ("The loader is 6.8 times as fast as the usual one.", [("6.8", "×")]),
        ("Rendering became 15x faster.", [("15", "×")]),
        ("Training takes 12 minutes.", [("12", "minutes")]),
        ("Training takes about two minutes on two cores.", [("two minutes", "minutes")]),
        ("A step takes 1.18 s, of which drawing is 5 ms.", [("1.18", "seconds"), ("5", "seconds")]),
        ("It renders 31 hands a second.", [("31", "rate")]),
        ("The U-Net's PCK@0.2 is 0.484.", [("0.484", "score")]),
        ("It has an AUC of .369 on these hands.", [(".369", "score")]),
        ("Between 3.4 and 5.1 px.", [("3.4", "px"), ("5.1", "px")]),
        ("| joint | PCK@0.2 |\n|---|---|\n| wrist | 0.742 |", [("0.742", "score")]),
        ("mmpose has 3.27 px, and our network 2.9 px.", [("3.27", "px"), ("2.9", "px")]),
        ("What others report:\n\n| system | AUC |\n|---|---|\n| **this course** | 0.77 |", [("0.77", "score")]),
        ("Errors are 4.4 px at 128 px.", [("4.4", "px")]),
    ],
)
def test_a_planted_measurement_is_found(planted: str, figures: list[tuple[str, str]]):
    assert found(planted) == figures


@pytest.mark.parametrize(
    "harmless",
    [
        "Images of 224 × 224 px are resized to 128 px.",
        "A heatmap with σ = 2 px; later σ falls to 1.5 px.",
        "PCK@0.2 divides by the box's longer side.",
        "mmpose publishes a mean error of 3.27 px at 224.",
        "Wang and others (2019) report 4.1 px.",
        "O. [Chernytska](https://example.org) reports 4.5 % of the image.",
        "Its authors' AUC is 0.87.",
        "These are its authors' figures:\n\n| system | PCK |\n|---|---|\n| a U-Net | 0.953 |",
        "The curve averages over thresholds up to 30 px.",
        "Bars are 95 % bootstrap intervals.",
        "The middle 95 % of the results are the interval.",
        "Whoever leaves the limit at 30 px has made the test easier.",
        "This keypoint lies 10 px to the left of the image.",
        "Colours vary by a shift of 10 px, a window of 13 px is read.",
        "An estimate, not a measurement: 40 minutes on a T4.",
        "If a fingertip is 20 px off, nobody is pleased.",
        "A convolution of 3×3, an image of 128×128.",
        "It holds 32,560 hands, cut four times.",
        "Pixels near a peak count (w + 1) times, here 11 times.",
        "```\nhandpose evaluate  # PCK 0.48, 3.1 px\n```",
        "## Questions\n\n1. A colleague has PCK 0.999. How many px is that? Is it 44.8 px?",
        "<!-- table: bench -->\n| a | 6.8 × |\n<!-- /table -->",
    ],
)
def test_settings_citations_and_suppositions_are_left_alone(harmless: str):
    assert found(harmless) == []


def test_a_checked_output_holds_a_number_of_its_unit_only():
    cell = 'print(f"{error:.3f} px off")\n\x00\n17.214 px off'
    assert found("It moves the answer by 17.2 px.", checked=[cell]) == []
    assert found("It moves the answer by 17.3 px.", checked=[cell]) == [("17.3", "px")]
    assert found("It is 17.2 times as fast.", checked=[cell]) == [("17.2", "×")]
    assert found("A share of 48 %.", checked=["share in %\n\x00\n0.4803"]) == []


def test_what_only_stands_in_the_source_of_a_checked_cell_holds_nothing():
    assert found("It is 17.2 px off.", checked=["guess = 17.2  # px\n\x00\nright"]) == [("17.2", "px")]


def test_a_claim_holds_its_bounds_and_if_it_is_narrow_what_lies_between():
    narrow = {"says": "The error is", "unit": "px", "bounds": {"quick": {"SynthHAND": [10, 16]}}}
    wide = {"says": "PCK@0.2 is", "unit": "", "bounds": {"quick": {"SynthHAND": [0.25, 0.75]}}}
    assert found("An error of 14.4 px.", claims=[narrow]) == []
    assert found("An error of 16.1 px.", claims=[narrow]) == [("16.1", "px")]
    assert found("A PCK of 0.48.", claims=[wide]) == [("0.48", "score")]
    assert found("A PCK above 0.25.", claims=[wide]) == []


def test_a_named_file_holds_what_is_in_it(tmp_path: Path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "bench.json").write_text('{"ratio": 6.7914, "share": 0.0143}')
    named = "It is 6.8 times as fast, see [the bench](figures/bench.json)."
    assert found(named, folder=tmp_path) == []
    assert found(named.replace("6.8", "7.2"), folder=tmp_path) == [("7.2", "×")]
    assert found("It is 6.8 times as fast.", folder=tmp_path) == [("6.8", "×")]
    assert found("Drawing takes 1.4 % of a step (`figures/bench.json`).", folder=tmp_path) == []


def test_minutes_are_held_by_what_an_execution_took():
    assert found("It takes two minutes.", minutes=[2.4]) == []
    assert found("It takes half a minute.", minutes=[0.1]) == []
    assert found("It takes two minutes.", minutes=[5.0]) == [("two minutes", "minutes")]


def evidence_of(notebooks: list[Path], claims: list[dict]) -> Evidence:
    opened = {path: json.loads(path.read_text(encoding="utf-8")) for path in NOTEBOOKS}
    minutes = [one["metadata"]["handpose"]["minutes"] for one in opened.values() if "handpose" in one["metadata"]]
    minutes += [sum(minutes)] if minutes else []
    return Evidence([text for path in notebooks for text in checked_cells(opened[path])], claims, minutes, ROOT)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_measured_number_of_a_notebook_is_checked_or_claimed(path: Path):
    claims = [claim for claim in load_claims().values() if claim["notebook"] == path.name]
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nothing_holds = unsupported(notebook_sentences(notebook, path.name), evidence_of([path], claims))
    assert not nothing_holds, "\n".join(["nothing holds these numbers up:", *nothing_holds])


def test_every_measured_number_of_the_readme_is_recorded_or_claimed():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = [path for path in NOTEBOOKS if path.name in text]
    claims = [claim for claim in load_claims().values() if claim["notebook"] in text]
    nothing_holds = unsupported(sentences_of(text, "README.md"), evidence_of(linked, claims))
    assert not nothing_holds, "\n".join(["nothing holds these numbers up:", *nothing_holds])


def test_the_finder_reads_whole_notebooks_up_to_the_exercises():
    def markdown(text: str) -> dict:
        return {"cell_type": "markdown", "id": "x", "source": [text], "metadata": {}}

    cells = [markdown("Off by 3 px."), markdown("## Your turn\n\nGiven 4 px."), markdown("Errors of 5 px."),
             markdown("Solution 6 px.\n\n## What to remember\n\nOff by 7 px.")]  # fmt: skip
    sentences = notebook_sentences({"cells": cells}, "n")
    assert [figure for s in sentences for figure in measured(s)] == [("3", "px"), ("7", "px")]
