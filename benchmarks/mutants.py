"""Mutation testing: small faults are put into the library, one at a time, and each module's own tests must notice.

    make mutants                                             all modules: a few hours of one core
    python benchmarks/mutants.py run --modules losses        one module
    python benchmarks/mutants.py table                       CONTRIBUTING's table from the stored results

The faults are cosmic-ray's (another operator, comparison or number, a condition turned round, a loop left out, ...), a
seeded sample of each module. cosmic-ray would start a new Python per fault, which imports torch for longer than most
tests run. So this script imports torch once and forks: each child imports the changed copy of the library, and runs
only those tests that reached the changed line before, quick ones first, until one fails. `mutants.csv` beside it holds
the outcomes, `mutants_equivalent.csv` the faults that change nothing a caller can see, each with its reason.
"""

import argparse
import ast
import csv
import difflib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_suffix(".csv")
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.csv")
NOTICED = ("killed", "timeout")
SLOW = 6.0  # s; a test that takes longer is left to faults that no other test reaches
COLUMNS = ("module", "line", "before", "after", "outcome")
OWN_TESTS = {  # what must notice a fault in a module
    "keypoints": ("test_keypoints.py", "test_framing.py"),
    "framing": ("test_framing.py", "test_properties.py"),
    "augment": ("test_augment.py",),
    "heatmaps": ("test_heatmaps.py", "test_properties.py"),
    "losses": ("test_losses.py", "test_properties.py"),
    "metrics": ("test_metrics.py", "test_properties.py"),
    "loader": ("test_loader.py",),
    "train": ("test_train.py",),
    "evaluate": ("test_evaluate.py",),
    "predict": ("test_predict.py",),
    "freihand": ("test_freihand.py",),
    "storage": ("test_storage.py",),
}
# Tests that start other processes, which a fault does not reach, or that are about files alone.
LEFT_OUT = {"train": "not killed and not processes and not damaged and not anew and not settings"}
LINKED = ("pyproject.toml", "README.md", "data", "figures", "notebooks", "examples", "runs", "web")
ARITHMETIC, BITS = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}, {"BitAnd", "BitOr", "BitXor"}
SHIFTS = {"LShift", "RShift"}
HEAVY = (  # imported once, before all children
    "torch", "torchvision.tv_tensors", "torchvision.datasets", "torchvision.transforms.v2", "cv2", "pandas", "scipy",
    "matplotlib.pyplot", "seaborn", "hypothesis", "safetensors.torch", "simplejpeg", "PIL.Image", "pytest", "pdb",
    "tomllib", "filelock", "platformdirs", "tqdm", "torch.distributed", "torch.nn.parallel", "torch.optim.swa_utils",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One fault in one module: the line it is on, that line before and after, and the module's source with it."""

    module: str
    line: int
    before: str
    after: str
    source: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.module, self.before, self.after


def mutants_of(module: str, source: str, count: int, seed: int) -> list[Mutant]:
    """A sample of the faults that can be made in a module: one per chosen place, all places equally likely."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    hints = _annotations(source)
    places = defaultdict(list)
    nodes = list(ast_nodes(get_ast(source)))
    for name in operator_names():
        if not _is_sensible(name):
            continue
        operator = get_operator(name)()
        positions = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, place in enumerate(positions):
            if not any(low <= place[0] < high for low, high in hints):
                places[place].append((name, occurrence))
    chance = random.Random(f"{module} {seed}")
    order = sorted(places)
    chance.shuffle(order)
    found = {}
    for place in order:
        name, occurrence = chance.choice(places[place])
        changed = mutate_code(source, get_operator(name)(), occurrence)
        mutant = _described(module, source, changed)
        if mutant is not None:
            found.setdefault(mutant.key, mutant)
        if len(found) == count:
            break
    return list(found.values())


def _is_sensible(name: str) -> bool:
    """Whether an operator of cosmic-ray makes faults that the first use doesn't already answer with a TypeError."""
    short = name.split("/")[1]
    pair = re.fullmatch(r"Replace(Binary|Comparison)Operator_(\w+?)_(\w+)", short)
    if pair and pair[1] == "Binary":
        return any({pair[2], pair[3]} <= group for group in (ARITHMETIC, BITS, SHIFTS))
    if pair:  # `is` in place of == is a warning of Python's
        return {pair[2], pair[3]} <= {"Is", "IsNot"} or not {pair[2], pair[3]} & {"Is", "IsNot"}
    return not short.startswith("Variable") and not short.endswith(("_Not", "_Invert"))


def _annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where type hints begin and end: a fault there is none."""
    hints = []
    for node in ast.walk(ast.parse(source)):
        for hint in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(hint, ast.expr):
                hints.append(((hint.lineno, hint.col_offset), (hint.end_lineno, hint.end_col_offset)))
    return hints


def _described(module: str, source: str, changed: str | None) -> Mutant | None:
    """The fault with the first line that it changes; None where nothing changes, or where it is no Python."""
    try:
        if changed is None or ast.dump(ast.parse(source)) == ast.dump(ast.parse(changed)):
            return None
    except SyntaxError:
        return None
    old, new = source.splitlines(), changed.splitlines()
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    _, first, last, start, end = next(block for block in blocks if block[0] != "equal")
    before, after = (" ".join(" ".join(lines).split()) for lines in (old[first:last], new[start:end]))
    return Mutant(module, first + 1, before, after, changed)


class Copy:
    """A copy of the library and its tests, in which faults are made; all else is linked."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("handpose_lib", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in LINKED:
            if (ROOT / name).exists():
                (folder / name).symlink_to(ROOT / name)

    def path(self, module: str) -> Path:
        return self.folder / "handpose_lib" / f"{module}.py"

    def start(self, tests: list[str], log: Path, plugins: tuple = (), keep_bytecode: bool = False) -> int:
        """A child process that runs tests in this copy; returns its number."""
        child = os.fork()
        if child:
            return child
        try:
            os.setsid()
            os.chdir(self.folder)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1), os.dup2(output, 2)
            sys.path.insert(0, str(self.folder))
            os.environ["PYTHONPATH"] = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # or each child would import Jupyter
            sys.dont_write_bytecode = not keep_bytecode
            import pytest

            basetemp = self.folder / "temporary"
            options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={basetemp}"]
            code = int(pytest.main([*options, *tests], plugins=plugins))
            sys.stdout.flush()
            os._exit(code)
        finally:
            os._exit(99)


class Reached:
    """A plugin of pytest that notes which lines of a module each test reaches, and how long the test takes."""

    def __init__(self, path: Path, out: Path):
        import coverage

        self.path, self.out = path, out
        self.coverage = coverage.Coverage(data_file=None, include=[str(path)])
        self.seconds: dict[str, float] = {}
        self.began = 0.0
        self.coverage.start()

    def pytest_runtest_setup(self, item):
        self.coverage.switch_context(item.nodeid)
        self.began = time.perf_counter()

    def pytest_runtest_teardown(self, item):
        self.seconds[item.nodeid] = time.perf_counter() - self.began

    def pytest_sessionfinish(self):
        self.coverage.stop()
        data = self.coverage.get_data()
        lines = data.contexts_by_lineno(str(self.path))
        with open(self.out, "w", newline="") as file:
            writer = csv.writer(file)
            for nodeid, seconds in self.seconds.items():
                reached = [line for line, contexts in lines.items() if nodeid in contexts]
                writer.writerow([nodeid, seconds, *reached])


def reached_by(copy: Copy, module: str) -> list[tuple[str, float, set[int]]]:
    """Each test of a module, its seconds and the lines that it reaches, quick ones first."""
    out, log = copy.folder / "reached.csv", copy.folder / "baseline.log"
    out.unlink(missing_ok=True)
    tests = [f"tests/{name}" for name in OWN_TESTS[module]]
    tests += ["-k", LEFT_OUT[module]] if module in LEFT_OUT else []
    child = os.fork()
    if not child:
        inner = copy.start(tests, log, (Reached(copy.path(module), out),), keep_bytecode=True)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or not out.is_file():
        sys.exit(f"the tests of {module} fail without any fault: see\n{log.read_text()[-3000:]}")
    with open(out, newline="") as file:
        rows = [(row[0], float(row[1]), set(map(int, row[2:]))) for row in csv.reader(file)]
    return sorted(rows, key=lambda row: row[1])


def tests_for(mutant: Mutant, rows: list, spans: list[range]) -> tuple[list[str], float]:
    """The tests that reach a fault, and the seconds that they take without it.

    A line that runs on import, such as a constant, is reached by all; of an expression over several lines, any line.
    """
    inside = [span for span in spans if mutant.line in span]
    if not inside:
        chosen = rows
    else:
        chosen = [row for row in rows if mutant.line in row[2]]
        chosen = chosen or [row for row in rows if row[2] & set(min(inside, key=len))]
    chosen = [row for row in chosen if row[1] < SLOW] or chosen
    return [row[0] for row in chosen], sum(row[1] for row in chosen)


def function_bodies(source: str) -> list[range]:
    """The lines of each function's body; its head, with the defaults, runs on import."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [range(node.body[0].lineno, node.end_lineno + 1) for node in nodes]


def outcomes_of(module: str, mutants: list[Mutant], copy: Copy, timeout: float, reuse: dict):
    """Yields each fault of a module with what became of it: killed, timeout, survived or unreached."""
    rows = reached_by(copy, module)
    source = (ROOT / "handpose_lib" / f"{module}.py").read_text()
    spans = function_bodies(source)
    for cached in copy.path(module).parent.glob(f"__pycache__/{module}.*"):
        cached.unlink()
    log = copy.folder / "mutant.log"
    if _watch(copy.start([row[0] for row in rows[:5]], log), timeout) != "survived":
        sys.exit(f"a copy without any fault does not pass: see\n{log.read_text()[-3000:]}")
    for mutant in mutants:
        tests, seconds = tests_for(mutant, rows, spans)
        if reuse.get(mutant.key) in ("killed", "timeout"):
            yield mutant, reuse[mutant.key]
            continue
        if not tests:
            yield mutant, "unreached"
            continue
        copy.path(module).write_text(mutant.source)
        yield mutant, _watch(copy.start(tests, log), min(timeout, 30 + 4 * seconds))
    copy.path(module).write_text(source)


def _watch(child: int, timeout: float) -> str:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def run(modules: list[str], count: int, seed: int, timeout: float, fresh: bool) -> None:
    """Tries the faults of modules and stores what became of them, module by module."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in HEAVY:
        __import__(name)
    import cosmic_ray.mutating  # noqa: F401  one import for all children

    for module in modules:
        old = [] if fresh else [row for row in read(RESULTS) if row["module"] == module]
        reuse = {(row["module"], row["before"], row["after"]): row["outcome"] for row in old}
        mutants = mutants_of(module, (ROOT / "handpose_lib" / f"{module}.py").read_text(), count, seed)
        began, rows = time.monotonic(), []
        with tempfile.TemporaryDirectory(prefix="mutants.") as folder:
            for mutant, outcome in outcomes_of(module, mutants, Copy(Path(folder)), timeout, reuse):
                values = (module, mutant.line, mutant.before, mutant.after, outcome)
                rows.append(dict(zip(COLUMNS, values, strict=True)))
                if outcome not in NOTICED:
                    print(f"{outcome}: {module}.py:{mutant.line}\n  - {mutant.before}\n  + {mutant.after}", flush=True)
        noticed = sum(row["outcome"] in NOTICED for row in rows)
        print(f"{module}: {noticed} of {len(rows)} noticed, {time.monotonic() - began:.0f} s", flush=True)
        store(module, rows)


def store(module: str, rows: list[dict]) -> None:
    """Puts the outcomes of one module in the place of its former ones; another run may store others meanwhile."""
    with FileLock(str(RESULTS) + ".lock"):
        rows = [row for row in read(RESULTS) if row["module"] != module] + rows
        rows.sort(key=lambda row: (list(OWN_TESTS).index(row["module"]), int(row["line"])))
        with open(RESULTS, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    Path(str(RESULTS) + ".lock").unlink(missing_ok=True)


def read(path: Path) -> list[dict]:
    """The rows of a CSV file, none where it is not there."""
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def table() -> str:
    """What became of the faults, per module, as Markdown."""
    reasons = {(row["module"], row["before"], row["after"]) for row in read(EQUIVALENT)}
    rows, sums = [], [0, 0, 0]
    for module in OWN_TESTS:
        of = [row for row in read(RESULTS) if row["module"] == module]
        if not of:
            continue
        noticed = sum(row["outcome"] in NOTICED for row in of)
        left = [row for row in of if row["outcome"] not in NOTICED]
        same = sum((row["module"], row["before"], row["after"]) in reasons for row in left)
        numbers = [len(of), noticed, same]
        sums = [a + b for a, b in zip(sums, numbers, strict=True)]
        rows.append([f"`{module}`", *numbers])
    head = "| module | faults | noticed | change nothing | noticed of the others |\n| --- | --- | --- | --- | --- |\n"
    lines = [[*row, f"{100 * row[2] / max(1, row[1] - row[3]):.0f} %"] for row in [*rows, ["all", *sums]]]
    return head + "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def put_table(name: str, table: str, page: Path = ROOT / "CONTRIBUTING.md") -> None:
    """Puts a table between its markers in CONTRIBUTING."""
    text = page.read_text(encoding="utf-8")
    marks = re.compile(f"(<!-- table: {name} -->\\n).*?(<!-- /table -->)", re.DOTALL)
    page.write_text(marks.sub(lambda m: f"{m[1]}{table}\n{m[2]}", text), encoding="utf-8")


def main() -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description="Put small faults into the library and see whether its tests notice.")
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--modules", nargs="+", choices=OWN_TESTS, default=list(OWN_TESTS))
    parser.add_argument("--count", type=int, default=26, help="faults per module (default 26)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds after which a fault counts as a hang")
    parser.add_argument("--again", action="store_true", help="only those that were not noticed before")
    arguments = parser.parse_args()
    if arguments.what == "run":
        run(arguments.modules, arguments.count, arguments.seed, arguments.timeout, not arguments.again)
    put_table("mutants", table())


if __name__ == "__main__":
    main()
