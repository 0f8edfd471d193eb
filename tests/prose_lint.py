"""Finds the measured numbers that prose quotes, and asks what holds each of them up.

A measured number is a figure with px, %, x (times), seconds, minutes, hours or images/s behind it, a time in words
("two minutes"), or, in a sentence or table about PCK or AUC, a figure from 0 to 1 with two decimals or more. In prose
about this project each of them must be

- printed by a checked cell of the same notebook (one whose source or output speaks of that unit),
- or a bound of a claim that this notebook proves, or inside the bounds of a narrow one (highest <= 2 x lowest),
- or in the file that the sentence, its table or the line before the table names: `figures/....csv` or `.json`,
- or, for minutes, within a factor of two of what a stored notebook took when it was last executed.

What is no measurement of this project is left alone: what others report (the sentence names them, the year of their
paper or an external link; not where it speaks of ours), settings (a symbol and `=`, a side that images really have,
sigma, threshold, limit, window, radius, shift, a 95 % interval, where a point lies), what is marked as an estimate,
sentences that begin with If, Suppose, Say or Imagine, and the exercises and questions. Numbers of README tables between
`<!-- table -->` markers come from files by `handpose figures`, and are compared with them there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

WORDS = {"half a": 0.5, "half an": 0.5, "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5,
         "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twelve": 12, "twenty": 20, "thirty": 30}  # fmt: skip
DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
UNITS = {
    "px": r"(?:px|pixels?)\b",
    "%": r"(?:%|per ?cent\b|percentage points?\b)",
    "×": r"(?:×(?!\s*\d)|x\b|times\b|-?fold\b)",
    "rate": r"(?:images|hands|batches|steps) ?(?:/|a |per )s(?:econd)?\b",
    "minutes": r"(?:min|minutes?|hours?|h)\b",
    "seconds": r"(?:s|ms|seconds?)\b",
}
QUANTITY = re.compile(
    rf"(?<![\w.,@/^])(?P<first>{DIGITS})(?:\s*(?:–|-|to|and|or)\s*(?P<second>{DIGITS}))?[\s-]?(?:"
    + "|".join(f"(?P<u{number}>{pattern})" for number, pattern in enumerate(UNITS.values()))
    + ")"
)
TIME_IN_WORDS = re.compile(rf"\b({'|'.join(sorted(WORDS, key=len, reverse=True))}) (minute|hour)s?\b", re.IGNORECASE)
SCORE = re.compile(r"(?<![\w.,@/^])(?:0?\.\d{2,4}|1\.0{2,})(?![\d%]|\s*(?:px|%|×))")
ABOUT_SCORES = re.compile(r"\b(?:PCK|AUC|accuracy)", re.IGNORECASE)
CITED = re.compile(
    r"mmpose|MediaPipe|rebuilt (?:project|system)|Santavas|Chernytska|\b[Ii]ts authors?\b|[Tt]heir authors|"
    r"published|[Oo]thers report|"
    r"et al\.|\b(?:19|20)\d\d\b[^.]{0,40}\)|\]\(https?://(?!\S*colab)"
)
OURS = re.compile(
    r"\bours\b|\bour (?:own )?(?:network|model|U-Net|score|weights|error|code|predictor|numbers)|"
    r"this (?:course|project)'s|\*\*this course|(?:bundled|quick) (?:weights|model|network)"
)
NO_MEASUREMENT = re.compile(r"\bestimate|^\W*(?:If|Suppose|Say|Imagine)\b")
SETTING_BEFORE = re.compile(
    r"(?:[\w_]\s*=\s*|±\s*|(?:σ|sigma|threshold|limit|middle|window|radius|kernel|shift|blur|noise)[^.;0-9]{0,30}|\bcounts?\b[^.;]{0,30}|\d\s*×\s*)$"
)
PLACE = re.compile(r"\blies? [\d.]+ px (?:to the|outside|beyond|above|below)\b")  # where a given point is
SETTING_AFTER = re.compile(r"^\s*(?:×\s*\d|(?:bootstrap |confidence )?intervals?\b|thresholds?\b|threshold\b)")
SIDES = {32, 48, 56, 64, 96, 112, 128, 224, 256}  # px, of images that the course, FreiHAND or a peer uses
LEFT_OUT = re.compile(r"^## (?:Your turn|Questions|Further reading)")
SPEAKS_OF = {"px": r"px|pixel", "%": r"%|per ?cent", "score": r"pck|auc", "×": r"×|times|ratio|÷| / |/ |faster|slower"}


@dataclass(frozen=True)
class Sentence:
    """A sentence, list item or table row; for a row, `table` is the head and what introduces the table."""

    text: str
    table: str = ""
    place: str = ""


@dataclass(frozen=True)
class Evidence:
    """What may hold a number up."""

    checked: list[str] = field(default_factory=list)  # source and output of each checked cell
    claims: list[dict] = field(default_factory=list)  # entries of claims.json
    minutes: list[float] = field(default_factory=list)  # that executions took
    folder: Path | None = None  # in which files that prose names are looked for


def unsupported(sentences: list[Sentence], evidence: Evidence) -> list[str]:
    """The measured numbers that nothing holds up, one line each: number, unit, and the sentence."""
    return [
        f"{sentence.place}: {shown} ({unit}) in: {sentence.text.strip()[:160]}"
        for sentence in sentences
        for shown, unit in measured(sentence)
        if not _is_held(shown, unit, sentence, evidence)
    ]


def measured(sentence: Sentence) -> Iterator[tuple[str, str]]:
    """The figures of a sentence that claim to be measurements of this project, with their units."""
    text, around = _plain(sentence.text), f"{sentence.text}\n{sentence.table}"
    if NO_MEASUREMENT.search(text) or (CITED.search(around) and not OURS.search(sentence.text)):
        return
    for match in QUANTITY.finditer(text):
        unit = next(name for number, name in enumerate(UNITS) if match[f"u{number}"])
        for part in ("first", "second"):
            if match[part] and not _is_setting(text, match.start(part), match.end(), match[part], unit):
                yield match[part], unit
    for match in TIME_IN_WORDS.finditer(text):
        yield match[0], "minutes"
    if ABOUT_SCORES.search(around):
        for match in SCORE.finditer(text):
            if not _is_setting(text, match.start(), match.end(), match[0], "score"):
                yield match[0], "score"


def sentences_of(markdown: str, place: str = "") -> list[Sentence]:
    """Prose in pieces: code, formulas, generated tables, exercises and questions are left out."""
    markdown = re.sub(r"<!-- table: .*?<!-- /table -->", "", markdown, flags=re.DOTALL)
    markdown = re.sub(r"```.*?```|\$\$.*?\$\$|<details>.*?</details>", "", markdown, flags=re.DOTALL)
    kept, skip = [], False
    for line in markdown.splitlines():
        if line.startswith("## "):
            skip = bool(LEFT_OUT.match(line))
        kept += [] if skip else [line]
    found: list[Sentence] = []
    introduction = ""
    for paragraph in re.split(r"\n\s*\n", "\n".join(kept)):
        lines = paragraph.strip().splitlines()
        rows = [line for line in lines if line.startswith("|")]
        if rows:
            table = f"{introduction}\n{rows[0]}"
            found += [Sentence(row, table, place) for row in rows[1:] if re.search(r"\w", row)]
            continue
        for item in re.split(r"\n(?=[-*] |\d+\. |#)", paragraph.strip()):
            joined = " ".join(item.split())
            found += [Sentence(text, "", place) for text in re.split(r"(?<=[.!?])\s+(?=[A-Z*`(\"])", joined) if text]
        introduction = paragraph if lines else introduction
    return found


def notebook_sentences(notebook: dict, name: str) -> list[Sentence]:
    """All sentences of a notebook's markdown cells, up to its exercises; what follows them is questions."""
    found: list[Sentence] = []
    skip = False
    for cell in notebook["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        source = "".join(cell["source"])
        headings = re.findall(r"^## .*", source, flags=re.MULTILINE)
        inherited = skip and not source.startswith("## ")
        text = re.sub(r"\A.*?(?=^## |\Z)", "", source, flags=re.DOTALL | re.MULTILINE) if inherited else source
        found += sentences_of(text, f"{name} [{cell.get('id', '?')}]")
        skip = bool(LEFT_OUT.match(headings[-1])) if headings else skip
    return found


def checked_cells(notebook: dict) -> list[str]:
    """Source and text output of each cell that nbval compares."""
    texts = []
    for cell in notebook["cells"]:
        if "nbval-check-output" in cell["metadata"].get("tags", []):
            outputs = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell["outputs"]]
            texts.append("\n".join(["".join(cell["source"]), "\0", *("".join(text) for text in outputs)]))
    return texts


def _plain(text: str) -> str:
    """Without inline code, formulas, link targets and tags."""
    text = re.sub(r"`[^`]*`|\$[^$]*\$|\]\([^)]*\)|<[^>]+>", " ", text)
    return re.sub(r"[*_]{1,2}(?=\S)|(?<=\S)[*_]{1,2}", "", text)


def _is_setting(text: str, start: int, end: int, shown: str, unit: str) -> bool:
    if unit == "px" and any(match.start() < start < match.end() for match in PLACE.finditer(text)):
        return True
    side = unit == "px" and shown.isdigit() and int(shown) in SIDES
    return side or bool(SETTING_BEFORE.search(text[:start]) or SETTING_AFTER.match(text[end:]))


def _is_held(shown: str, unit: str, sentence: Sentence, evidence: Evidence) -> bool:
    value = _value(shown)
    if unit == "minutes":
        value *= 60 if "hour" in shown else 1
        if any(max(minutes, 0.5) / 2 <= value <= 2 * max(minutes, 0.5) for minutes in evidence.minutes):
            return True
    for cell in evidence.checked:
        output = cell.partition("\0")[2]
        if re.search(SPEAKS_OF.get(unit, ""), cell, re.IGNORECASE) and _is_printed(shown, unit, output):
            return True
    for claim in evidence.claims:
        same = unit in claim["unit"] if unit != "score" else bool(ABOUT_SCORES.search(claim["says"]))
        bounds = [each for of_data in claim["bounds"].values() for each in of_data.values()]
        for low, high in bounds if same else ():
            if value in (low, high) or (high <= 2 * low and low <= value <= high):
                return True
    named = re.findall(r"figures/[\w.-]+\.(?:csv|json)", f"{sentence.text}\n{sentence.table}")
    paths = [evidence.folder / name for name in named] if evidence.folder else []
    return any(_is_printed(shown, unit, path.read_text(encoding="utf-8")) for path in paths if path.is_file())


def _value(shown: str) -> float:
    words = TIME_IN_WORDS.match(shown)
    return WORDS[words[1].lower()] if words else float(shown.replace(",", ""))


def _is_printed(shown: str, unit: str, text: str) -> bool:
    """Whether a number of `text`, rounded as the prose rounds it, is the one shown; 0.48 may be quoted as 48 %."""
    if not re.fullmatch(DIGITS, shown):
        return False
    places, value = len(shown.partition(".")[2]), _value(shown)
    numbers = [_value(number) for number in re.findall(rf"(?<![\w.]){DIGITS}", text)]
    scales = (1, 100) if unit == "%" else (1,)
    return any(abs(round(scale * number, places) - value) < 1e-9 for number in numbers for scale in scales)
