"""The glossary: each term has the anchor that chapters link to, and leads on to a chapter."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GLOSSARY = ROOT / "docs" / "glossary.md"
ENTRIES = dict(
    re.findall(r"^## (.+?)\n\n(.+?)(?=\n\n## |\s*\Z)", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
)


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


ANCHORS = {anchor(heading) for heading in ENTRIES}


def test_terms_that_learners_meet_are_explained():
    asked = """pck epe auc sigma heatmap keypoint decoder dark soft-argmax u-net skip-connection adaptive-wing-loss ema
        bootstrap test-time-augmentation root-joint camera-matrix occlusion iou batch-normalisation amp"""
    assert set(asked.split()) - ANCHORS == set()


def test_entries_are_in_the_order_of_the_alphabet():
    assert list(ENTRIES) == sorted(ENTRIES, key=str.lower)


def test_every_entry_leads_to_a_chapter_and_to_entries_that_exist():
    for heading, text in ENTRIES.items():
        chapters = re.findall(r"\]\(\.\./(notebooks/[^)]+)\)", text)
        assert chapters, f"{heading} names no chapter"
        assert all((ROOT / chapter).is_file() for chapter in chapters), heading
        assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= ANCHORS, heading


def test_entries_are_short():
    assert {heading: len(text.split()) for heading, text in ENTRIES.items() if len(text.split()) > 110} == {}
