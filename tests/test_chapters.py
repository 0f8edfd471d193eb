"""The way through the chapters: neighbours, contents, glossary, answers, a project, and what the tests check."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
FOR_THE_TESTS = "What the tests check here"
LINK = r"\[([^\]]+)\]\(([^)\s]+)\)"

each_chapter = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# Chapter 00 sets a machine up: it has neither exercises nor questions.
each_lesson = pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.stem)


def cells_of(path: Path) -> list[dict]:
    """The notebook's cells, each with its source as one string."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def markdown(path: Path) -> list[str]:
    """The source of each Markdown cell."""
    return [cell["source"] for cell in cells_of(path) if cell["cell_type"] == "markdown"]


def without_code(text: str) -> str:
    """Without fenced code, in which a line may begin with #."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def headings(text: str, levels: str = "2") -> list[str]:
    """The headings of a level, or of levels from one to another such as "2,3", as they are written."""
    return re.findall(rf"^#{{{levels}}} (.+?)\s*$", without_code(text), re.MULTILINE)


def plain(text: str) -> str:
    """A title without its marks."""
    return re.sub(r"[`*]", "", text)


def jupyter_anchor(heading: str) -> str:
    """The anchor that JupyterLab, nbviewer and GitHub's view of notebooks give a heading: case and commas stay."""
    return re.sub(LINK, r"\1", re.sub(r"[`*$]", "", heading)).replace(" ", "-")


def github_anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading of a Markdown file."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def navigation(text: str) -> list[str]:
    """The chapters that a navigation line leads to: a line with an arrow in a link to a notebook."""
    lines = [line for line in text.splitlines() if re.search(r"\[(?:← .+?|.+? →)\]\(\w+\.ipynb\)", line)]
    return re.findall(r"\]\((\w+\.ipynb)\)", lines[0]) if lines else []


@each_chapter
def test_a_chapter_leads_to_both_its_neighbours_at_its_top_and_at_its_end(path: Path):
    place = NOTEBOOKS.index(path)
    neighbours = [other.name for other in (*NOTEBOOKS[max(0, place - 1) : place], *NOTEBOOKS[place + 1 : place + 2])]
    texts = cells_of(path)
    assert navigation(texts[1]["source"]) == neighbours, "the second cell lacks the line that leads to both neighbours"
    assert navigation(texts[-1]["source"]) == neighbours, "the last cell should repeat the navigation line"


@each_chapter
def test_contents_list_the_chapters_sections_with_links_that_work_in_jupyterlab(path: Path):
    top = cells_of(path)[1]["source"]
    assert "**Contents**" in top, "the second cell has no **Contents**"
    contents = re.match(r"(?:\s*[-*] .*\n?|\s*\[.*\n?)+", top.split("**Contents**")[1].lstrip(":"))
    listed = re.findall(LINK, contents[0] if contents else "")
    sections = [heading for text in markdown(path) for heading in headings(text)]
    parts = [heading for text in markdown(path) for heading in headings(text, "2,3")]
    names = [plain(name) for name, _ in listed]
    # What is for the tests is no part of the story: the contents may leave it out.
    assert [plain(section) for section in sections if plain(section) not in (*names, FOR_THE_TESTS)] == []
    assert names == [plain(part) for part in parts if plain(part) in names], "names or order differ from the chapter's"
    assert [link for _, link in listed] == [f"#{jupyter_anchor(part)}" for part in parts if plain(part) in names]


@each_chapter
def test_a_section_has_a_name_that_can_be_linked(path: Path):
    """JupyterLab compares the anchor with the link as the browser writes it, so what a browser escapes is not found."""
    sections = [heading for text in markdown(path) for heading in headings(text)]
    assert len(sections) == len(set(sections)), "two sections have one name"
    assert [section for section in sections if re.search(r"[^\x20-\x7e]|[\"<>%()\[\]]", section)] == []


@each_chapter
def test_links_to_the_glossary_lead_to_an_entry(path: Path):
    links = [anchor for text in markdown(path) for anchor in re.findall(r"docs/glossary\.md(#[^)\s]*)?\)", text)]
    entries = {f"#{github_anchor(heading)}" for heading in headings(GLOSSARY)}
    assert set(links) - entries - {""} == set()
    if path != NOTEBOOKS[0]:
        assert len(set(links)) >= 2, "terms should be linked where they come up first"


@each_lesson
def test_every_question_has_a_folded_answer(path: Path):
    text = "\n\n".join(markdown(path))
    (questions,) = re.findall(r"^## Questions$(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    asked = re.findall(r"^\d+\. ", questions, re.MULTILINE)
    answers = re.findall(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", questions, re.DOTALL)
    assert len(asked) >= 2
    assert len(answers) == len(asked), f"{len(asked)} questions, {len(answers)} folded answers"
    assert all(len(answer.split()) >= 5 for _, answer in answers), "an answer is empty"


@each_lesson
def test_a_chapter_has_a_project_that_says_what_to_expect(path: Path):
    found = [
        text
        for text in markdown(path)
        if re.search(r"^(?:#{2,4} |\*\*)(?:\d+\. )?(?:A p|P)roject\b", text, re.MULTILINE)
    ]
    assert found, "no project: a heading or a bold lead that begins with Project or A project"
    assert any(re.search(r"expect", text, re.IGNORECASE) for text in found)


@each_lesson
def test_what_the_tests_check_is_in_a_cell_of_its_own(path: Path):
    cells = cells_of(path)
    places = [number for number, cell in enumerate(cells) if headings(cell["source"]) == [FOR_THE_TESTS]]
    assert len(places) == 1, f"there should be one cell with the heading {FOR_THE_TESTS!r} alone"
    following = cells[places[0] + 1]
    assert following["cell_type"] == "code" and "checks" in following["metadata"].get("tags", [])
    for cell in cells[: places[0]]:
        assert "check_claim(" not in cell["source"], f"a claim is checked before that cell, in {cell['id']}"


@each_chapter
def test_links_to_other_chapters_name_no_section(path: Path):
    """A section's anchor is written in one way for JupyterLab and in another for the site, which would not build."""
    assert [link for text in markdown(path) for link in re.findall(r"\]\((\w+\.ipynb#[^)]*)\)", text)] == []
