"""The site: README, chapters as they are stored, glossary and API reference as static pages, by `make site`.

The source folder is the repository itself, so that a link from one page to another is the same on GitHub and here.
Nothing is executed, and no page loads anything from elsewhere: MathJax is copied into the site, and the Colab badge,
which the notebooks take from Colab, is replaced by a picture of our own.
"""

import json
import re
import shutil
import sys
import tomllib
from base64 import b64decode
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from PIL import Image
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the API pages are of this very checkout
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"]

project = "Hand pose in PyTorch"
author = "the authors of handpose_lib"
release = PROJECT["version"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
extensions += ["sphinx.ext.githubpages"]  # the file .nojekyll, without which folders like _static stay hidden there
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/**.md", "notebooks/[0-9][0-9]_*.ipynb"]
include_patterns += ["data/README.md", "data/weights/README.md", "handpose_lib/synthhand/*.md"]
exclude_patterns = [".*", "build", "runs", "dist", "data/*/training", "**/node_modules", "docs/_static"]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4  # as GitHub names them
nb_execution_mode = "off"  # what is stored is shown
nb_merge_streams = True
highlight_language = "none"  # a block that names no language is a list of commands or files
default_role = "code"  # docstrings write code between single backticks
autodoc_mock_imports = ["anny"]  # only who rebuilds the hand's mesh needs it
python_maximum_signature_line_length = 88
autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/hand.svg"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_branch": "main",
    "use_repository_button": True,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "navbar_persistent": [],
}
mathjax_path = "mathjax/tex-chtml.js"
MATHJAX_PARTS = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts")

ALTERNATIVE = 300  # characters of a picture's alternative text
NARROW = 570  # px; on a telephone, a picture of less is made as narrow as the page
OPERATORS = "=×·÷−+≤≥"
NO_BREAK = "\N{NO-BREAK SPACE}"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
DEMO_LINK = """
<p><a href="demo/index.html">Open the demo</a></p>

It starts where the site comes from a web server, such as `python -m http.server -d build/site`.
"""
PAGES = """
```{toctree}
:hidden:
:caption: Chapters
:glob:

notebooks/*
```

```{toctree}
:hidden:
:caption: Reference

docs/glossary
docs/api/index
data/weights/README
data/README
handpose_lib/synthhand/ASSET_LICENSE
handpose_lib/synthhand/PHOTOGRAPHS
docs/demo
CONTRIBUTING
```
"""


def github_anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading, and so does this site."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def unbroken(markdown: str) -> str:
    """Text whose short formulas, numbers with their units, and arrows are not broken over two lines."""
    pieces = re.split(r"(```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$|^#.*?$)", markdown, flags=re.DOTALL | re.MULTILINE)
    for number in range(0, len(pieces), 2):  # what lies between code, formulas and headings
        text = re.sub(rf"[^\s|\[\]]+(?: [{OPERATORS}]\s[^\s|\[\]]+)+", formula, pieces[number])
        text = re.sub(
            r"(?<=[\d½]) (?=(?:%|°|px|MB|GB|ms|min|s)\b|%)|(?<=←) | (?=→)|(?<=[Cc]hapter) (?=\d)", NO_BREAK, text
        )
        pieces[number] = text
    return "".join(pieces)


def formula(found: re.Match) -> str:
    """Its text without a place to break; a long one may be broken before its operators."""
    text = found[0]
    return re.sub(r"\s", NO_BREAK, text) if len(text) < 30 else re.sub(rf"(?<= [{OPERATORS}])\s", NO_BREAK, text)


def plain(markdown: str) -> str:
    """The last sentences of a markdown cell without its marks: what the text says about the picture that follows."""
    text = re.sub(r"<[^>]+>|[*`$]|^#+ ", "", markdown.strip().split("\n\n")[-1], flags=re.MULTILINE)
    text = " ".join(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).split())
    while len(text) > ALTERNATIVE and re.search(r"[.:?] ", text):
        text = re.split(r"[.:?] ", text, maxsplit=1)[1]
    return text


def widths(cell: dict) -> list[int]:
    """Of the pictures that a cell stores, px."""
    stored = [output.get("data", {}).get(kind) for output in cell["outputs"] for kind in ("image/png", "image/jpeg")]
    return [Image.open(BytesIO(b64decode(picture))).width for picture in stored if picture]


def is_sentences(cell: dict) -> bool:
    """Whether a cell prints lines without columns, which a telephone may break."""
    printed = "".join("".join(output.get("text", "")) for output in cell["outputs"])
    return bool(printed) and not re.search(r"\S {2,}\S|^ {2,}\S", printed, re.MULTILINE)


def for_the_site(notebook: dict) -> dict:
    """A chapter with our own badge, contents that lead to this site's anchors, and what the tests check folded.

    The alternative text of a picture is what was said before it.
    """
    said = ""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            narrow = {"classes": "narrow"} if max(widths(cell), default=NARROW) < NARROW else {}
            cell["metadata"]["mystnb"] = {"image": {"alt": f"Picture: {said}", **narrow}}
        if cell["cell_type"] == "markdown":
            said = plain(text)
            text = unbroken(text.replace(BADGE, "../docs/_static/colab-badge.svg"))
            cell["source"] = re.sub(r"\]\(#([^)\s]+)\)", lambda link: f"](#{github_anchor(link[1])})", text)
        elif "checks" in cell["metadata"].get("tags", []):
            cell["metadata"]["tags"].append("hide-cell")
        elif is_sentences(cell):
            cell["metadata"].setdefault("tags", []).append("sentences")
    return notebook


def automodule(name: str) -> str:
    """The heading and the reference of one module."""
    return f"\n## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n"


def remaining_modules() -> list[str]:
    """Modules that no page in `docs/api/` names, those with exercises' checks and chapters' figures left out."""
    named = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    files = sorted((ROOT / "handpose_lib").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    names = [name for name in names if not re.search(r"\.(chapter\d+|figures_ch\d+)$|^handpose_lib$", name)]
    return [name for name in names if not re.search(rf"automodule:: {re.escape(name)}$", named, re.MULTILINE)]


def prepare(app: Sphinx, page: str, source: list[str]) -> None:
    """What differs between a page on GitHub and here."""
    if not page.startswith(("notebooks/", "docs/api/")):
        source[0] = unbroken(source[0])
    if page == "README":
        source[0] += PAGES
    elif page.startswith("notebooks/"):
        source[0] = json.dumps(for_the_site(json.loads(source[0])))
    elif page == "docs/api/more":
        source[0] += "".join(map(automodule, remaining_modules()))
    elif page == "docs/demo" and (ROOT / "build" / "web" / "index.html").is_file():
        source[0] = source[0].split("<!-- without -->")[0] + DEMO_LINK


def plain_signature(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Signatures with `...` for what a dataclass makes anew each time: Sphinx can't read Python's own mark for it."""
    if signature and "<factory>" in signature:
        signature = signature.replace("<factory>", "...")
    return signature, returns


def show_code(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Blocks that a module's docstring indents are code, or a table of files, and keep their form; arrows are one sign.

    Sphinx calls this for each docstring.
    """
    lines[:] = [line if line.lstrip().startswith(">>>") else line.replace(" -> ", " → ") for line in lines]
    if what == "module":
        for number in range(len(lines) - 1, 1, -1):
            begins = lines[number].startswith("    ") and not lines[number - 1]
            if begins and not lines[number - 2].startswith(" ") and not lines[number - 2].endswith("::"):
                lines[number:number] = ["::", ""]


def finish(app: Sphinx, failure: Exception | None) -> None:
    """A first page that servers find, MathJax, and the demo."""
    if failure:
        return
    out = Path(app.outdir)
    shutil.copyfile(out / "README.html", out / "index.html")
    package = Path(find_spec("sphinx-mathjax-offline").submodule_search_locations[0])
    for part in MATHJAX_PARTS:
        source, target = package / "static" / "mathjax" / part, out / "_static" / "mathjax" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
    if (ROOT / "build" / "web" / "index.html").is_file():
        shutil.copytree(ROOT / "build" / "web", out / "docs" / "demo", dirs_exist_ok=True)


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", prepare)
    app.connect("autodoc-process-docstring", show_code)
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("build-finished", finish)
