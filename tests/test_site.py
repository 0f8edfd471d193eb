"""The site, built with warnings as errors: its pages, pictures and links, and one chapter in a browser."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("sphinx", reason="Sphinx is not installed: pip install -e '.[docs]'")
pytest.importorskip("myst_nb", reason="myst-nb is not installed: pip install -e '.[docs]'")
pytest.importorskip("sphinx_book_theme", reason="sphinx-book-theme is not installed: pip install -e '.[docs]'")
pytest.importorskip(
    "sphinx-mathjax-offline", reason="sphinx-mathjax-offline is not installed: pip install -e '.[docs]'"
)

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "video": "src", "audio": "src"}


class Page(HTMLParser):
    """What a page links, loads, shows and can be linked at."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.pictures: list[str] = []
        self.said: dict[str, str] = {}  # of each picture, its alternative text
        self.anchors: set[str] = set()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Sort what the tag says into the lists."""
        given = {name: value or "" for name, value in attributes}
        self.tags.append(tag)
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and not set(given.get("rel", "").split()) <= {
            "index",
            "search",
            "next",
            "prev",
            "canonical",
        }:
            self.loads.append(given["href"])
        elif tag in LOADS and LOADS[tag] in given:
            self.loads.append(given[LOADS[tag]])
        if tag == "img":
            self.pictures.append(given["src"])
            self.said[given["src"]] = given.get("alt", "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from scratch."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-c", "docs"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    built = subprocess.run(
        [*command, "-d", str(out / "doctrees"), ".", str(out / "html")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-4000:]
    return out / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """All pages but the demo's, by their path in the site."""
    found = [path for path in sorted(site.rglob("*.html")) if not path.is_relative_to(site / "docs" / "demo")]
    found = [path for path in found if not path.is_relative_to(site / "_static")]
    return {path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8")) for path in found}


def test_every_part_of_the_course_has_its_page(pages: dict[str, Page]):
    parts = ["index", "README", "CONTRIBUTING", "docs/glossary", "docs/demo", "docs/api/index", "data/README"]
    parts += ["data/weights/README", *(f"notebooks/{chapter}" for chapter in CHAPTERS)]
    assert {f"{part}.html" for part in parts} - set(pages) == set()


def test_every_module_is_in_the_reference(pages: dict[str, Page]):
    anchors = set().union(*(page.anchors for name, page in pages.items() if name.startswith("docs/api/")))
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "handpose_lib").rglob("*.py")]
    modules = {".".join(path.parts).removesuffix(".__init__") for path in files}
    modules = {name for name in modules if not re.search(r"chapter\d\d$|figures_ch\d\d$|^handpose_lib$", name)}
    assert {f"module-{name}" for name in modules} - anchors == set()
    assert {"handpose_lib.heatmaps.decode_heatmaps", "handpose_lib.predict.HandPosePredictor"} <= anchors


def test_pictures_of_the_chapters_are_there(site: Path, pages: dict[str, Page]):
    for chapter in CHAPTERS:
        notebook = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
        outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
        stored = [output for output in outputs if {"image/png", "image/jpeg"} & set(output.get("data", {}))]
        shown = [picture for picture in pages[f"notebooks/{chapter}.html"].pictures if "_images/" in picture]
        assert len(shown) == len(stored) + 1, f"{chapter} stores {len(stored)} pictures and shows them and its badge"
    assert any("per_keypoint_accuracy" in picture for picture in pages["index.html"].pictures)


def test_a_chapters_picture_has_a_sentence_for_those_who_do_not_see_it(pages: dict[str, Page]):
    for chapter in CHAPTERS:
        said = pages[f"notebooks/{chapter}.html"].said
        texts = {src: alt for src, alt in said.items() if "_images/" in src and alt != "Open In Colab"}
        poor = {src: alt for src, alt in texts.items() if not re.fullmatch(r"Picture: [^`*\[\]]{20,300}", alt)}
        assert texts and poor == {}, chapter


def test_solutions_are_folded(pages: dict[str, Page]):
    for chapter in CHAPTERS[1:]:
        assert pages[f"notebooks/{chapter}.html"].tags.count("details") >= 2, chapter


def test_short_formulas_and_numbers_with_units_are_not_broken_over_lines_and_code_stays_as_it_is(site: Path):
    chapter = (site / "notebooks" / "08_inference.html").read_text(encoding="utf-8")
    assert "(u + ½)·s − ½" in chapter.replace("\xa0", " ") and "(u\xa0+\xa0½)·s\xa0−\xa0½" in chapter
    assert re.search(r"\d\xa0px", chapter) and "\xa0→" in chapter
    code = re.findall(r"<pre.*?</pre>", chapter, flags=re.DOTALL)
    assert code and not any("\xa0" in block for block in code)


def test_links_within_the_site_lead_somewhere(site: Path, pages: dict[str, Page]):
    broken = []
    for name, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            inside = Path(os.path.normpath(target))
            other = pages.get(inside.relative_to(site).as_posix()) if inside.is_relative_to(site) else None
            if not inside.is_file() or (parts.fragment and other and unquote(parts.fragment) not in other.anchors):
                broken.append(f"{name}: {link}")
    assert broken == []


def test_no_page_loads_anything_from_elsewhere(site: Path, pages: dict[str, Page]):
    for name, page in pages.items():
        elsewhere = [link for link in page.loads if urlsplit(link).netloc or urlsplit(link).scheme not in ("", "data")]
        assert elsewhere == [], name
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", text), path


def test_every_chapter_can_be_launched_on_colab(pages: dict[str, Page]):
    for chapter in CHAPTERS:
        address = re.compile(rf"https://colab\.research\.google\.com/github/.+/blob/main/notebooks/{chapter}\.ipynb$")
        found = [link for link in pages[f"notebooks/{chapter}.html"].links if address.match(link)]
        assert len(found) >= 2, f"{chapter} should have a badge and a launch button"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if not Path(CHROMIUM).is_file():
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: it is in the dev extra"
    )
    with playwright.sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


def test_a_chapter_in_a_browser_has_its_formulas_typeset_and_asks_nobody_else(site: Path, browser):
    asked: list[str] = []
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(120_000)
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "notebooks" / "02_heatmaps.html").as_uri())
    page.wait_for_selector("mjx-container[jax='CHTML'] mjx-mfrac, mjx-container[jax='CHTML'] mjx-msup")
    assert page.locator("mjx-merror").count() == 0
    assert [url for url in asked if not url.startswith(("file://", "data:", "blob:"))] == []
    assert any("mathjax" in url for url in asked)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, f"the page is {width} px wide on a telephone"
    page.close()


def test_a_telephone_shows_printed_sentences_whole_and_a_docstrings_term_in_one_piece(site: Path, browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(120_000)
    page.goto((site / "notebooks" / "02_heatmaps.html").as_uri(), wait_until="load")
    wide = "all => all.map(pre => pre.scrollWidth - pre.clientWidth)"
    sentences = page.locator(".tag_sentences .cell_output pre").evaluate_all(wide)
    columns = page.locator(".cell:not(.tag_sentences) .cell_output pre").evaluate_all(wide)
    assert len(sentences) > 3 and max(sentences) <= 1 < max(columns)
    page.goto((site / "docs" / "api" / "data.html").as_uri(), wait_until="load")
    shown = page.locator("dl.simple > dt").evaluate_all("all => all.map(term => getComputedStyle(term).display)")
    page.close()
    assert shown and set(shown) == {"block"}


def test_no_page_is_wider_than_a_telephone(site: Path, pages: dict[str, Page], browser):
    """What is wide scrolls by itself: code, tables, pictures. Names of the API and titles break."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(120_000)
    widths = {}
    for name in pages:
        page.goto((site / name).as_uri(), wait_until="load")
        widths[name] = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert {name: width for name, width in widths.items() if width > 390} == {}
