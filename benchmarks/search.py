"""Our search against other tools, on replayed learning curves: no network is trained.

    pip install keras-tuner syne-tune statsmodels xgboost onnxruntime
    python benchmarks/search.py --lcbench DIR [--half report] [--repetitions 6] [--jobs 2] [--folder search]

Each search trains on simulated workers (benchmarks/replay/workers.py) until it has used up its budget, 20 full
trainings' epochs. Its regret is 0 where it found the best known point and 1 where what it found is worth the median
random point. Results are appended to searches.csv in the folder; the same command continues after a kill, and another
method is compared with what is there. Then regret.csv, tasks.csv and search.png are written.

The tasks with an even place in the sorted list are for choosing settings (`--half choose`), those with an odd one for
reporting. The task `digits` is that of the curves that benchmarks/curves.py recorded. The task `analytic` shows that
the simulation works, and nothing else.
"""

import argparse
import contextlib
import csv
import functools
import itertools
import multiprocessing
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import compare, methods
from benchmarks.landscape import digits_task
from benchmarks.replay.workers import of_epochs, replay
from benchmarks.tasks import Task, analytic_task, lcbench_tasks
from sweeper_digits.errors import UserError

Run = tuple[str, str, int, int]  # method, task, workers, repetition
PARTS = range(5, 101, 5)  # percent of the budget at which the worth is noted
FIELDS = ["method", "task", "workers", "repetition", "budget", "best", "median", "seconds"]
FIELDS += [f"worth_{part}" for part in PARTS]


def all_tasks(lcbench: Path | None, folder: Path) -> dict[str, Callable[[], Task]]:
    """Return what makes each task, by name: the digits, those of LCBench, and an analytic one for tests."""
    makers: dict[str, Callable[[], Task]] = {"digits": functools.partial(digits_task, folder / "landscape.json")}
    if lcbench is not None:
        makers |= lcbench_tasks(lcbench, folder / "random_points.json")
    return makers | {"analytic": analytic_task}


def chosen(makers: dict[str, Callable[[], Task]], half: str, names: list[str] | None) -> list[str]:
    """Return the names of the tasks of a half, or those named, once each is known.

    Raises:
        UserError: A name is unknown.
    """
    if names is None:
        places = {"choose": slice(0, None, 2), "report": slice(1, None, 2), "all": slice(None)}
        surrogates = sorted(name for name in makers if name.startswith("lcbench"))
        return ["digits", *surrogates[places[half]]]
    for name in names:
        if name not in makers:
            raise UserError(f"--tasks: {name!r} is unknown; type some of: {', '.join(makers)}")
    return names


def search(run: Run, task: Task, budget: float) -> dict[str, object]:
    """Replay one search.

    Args:
        run: Which. The task and the repetition decide the seed and the noise, so that methods are compared in pairs.
        task: Of that name.
        budget: In full trainings' epochs.

    Returns:
        A row of searches.csv; its seconds are those of the processor.
    """
    method, name, workers, repetition = run
    seed = zlib.crc32(f"{name} {repetition}".encode()) % 2**31
    np.random.seed(seed)  # statsmodels in Syne Tune's BOHB draws from it
    started = time.process_time()
    made = methods.METHODS[method](task, np.random.default_rng(seed), seed, workers)
    trace = replay(made, budget * task.epochs, of_epochs, workers)
    row: dict[str, object] = dict(zip(FIELDS, [*run, budget, task.best, task.median], strict=False))
    row["seconds"] = round(time.process_time() - started, 3)
    return row | {f"worth_{part}": trace.at(part / 100 * budget * task.epochs) for part in PARTS}


class Pool:
    """What a process works with.

    Attributes:
        tasks: By name.
        budget: In full trainings' epochs.
    """

    tasks: dict[str, Task]
    budget: float

    @classmethod
    def start(cls, lcbench: Path | None, folder: Path, names: list[str], budget: float) -> None:
        """Load the tasks of these names once in each process."""
        warnings.filterwarnings("ignore")  # other tools' notes on their dependencies
        makers = all_tasks(lcbench, folder)
        cls.tasks = {name: makers[name]() for name in names}
        cls.budget = budget

    @classmethod
    def search(cls, run: Run) -> dict[str, object]:
        """Replay one search."""
        return search(run, cls.tasks[run[1]], cls.budget)


def known(path: Path, budget: float) -> set[Run]:
    """Return the searches that searches.csv has.

    Raises:
        UserError: They had another budget.
    """
    if not path.is_file():
        return set()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if float(row["budget"]) != budget:
            raise UserError(f"{path} has searches with --budget {row['budget']}, not {budget}; type another --folder")
    return {(row["method"], row["task"], int(row["workers"]), int(row["repetition"])) for row in rows}


def mend(path: Path) -> None:
    """Drop a last line that a kill cut short."""
    if path.is_file() and not (text := path.read_text()).endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1])


@contextlib.contextmanager
def rows_of(runs: list[Run], arguments: argparse.Namespace) -> Iterator[Iterator[dict[str, object]]]:
    """Give the rows of the searches as they end, from so many processes; a single job needs no other process."""
    names = list(dict.fromkeys(task for _, task, _, _ in runs))
    start = (arguments.lcbench, arguments.folder, names, arguments.budget)
    Pool.start(*start)  # what tasks are scaled by is kept in files, which the other processes read
    if arguments.jobs == 1 or len(runs) < 2:
        yield map(Pool.search, runs)
        return
    # Spawned: a copy of a process with ONNX's or TensorFlow's threads may hang.
    with multiprocessing.get_context("spawn").Pool(arguments.jobs, Pool.start, start) as pool:
        yield pool.imap_unordered(Pool.search, runs)


def record(runs: Iterable[Run], arguments: argparse.Namespace, path: Path) -> None:
    """Replay the searches that the file lacks, and append each to the file as it ends."""
    mend(path)
    done = known(path, arguments.budget)
    missing = [run for run in runs if run not in done]
    new = not path.is_file() or not path.stat().st_size
    with rows_of(missing, arguments) as rows, path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        for number, row in enumerate(rows, 1):
            writer.writerow(row)
            file.flush()
            if number % 100 == 0:
                print(f"{number} of {len(missing)} searches", flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lcbench", type=Path, help="the folder of YAHPO's surrogate of LCBench")
    parser.add_argument("--tasks", nargs="+", help="only these; default: those of --half")
    parser.add_argument("--half", choices=["choose", "report", "all"], default="all")
    usual = [name for name in methods.METHODS if name not in methods.SLOW]
    parser.add_argument("--methods", nargs="+", default=usual, help=f"of {list(methods.METHODS)}")
    parser.add_argument("--repetitions", type=int, default=6, help="of each task")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--budget", type=float, default=20, help="full trainings")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--folder", type=Path, default=Path("search"), help="of the results")
    arguments = parser.parse_args()
    for name in ("repetitions", "budget", "jobs"):
        if getattr(arguments, name) <= 0:
            raise UserError(f"--{name} must be above 0, not {getattr(arguments, name)}")
    if min(arguments.workers) < 1:
        raise UserError(f"--workers must be 1 or more, not {min(arguments.workers)}")
    return arguments


def main() -> None:
    """Search, compare and draw."""
    arguments = parse()
    methods.check(arguments.methods)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    names = chosen(all_tasks(arguments.lcbench, arguments.folder), arguments.half, arguments.tasks)
    path = arguments.folder / "searches.csv"
    # Repetitions first: a run that is cut short has all methods and tasks.
    order = itertools.product(range(arguments.repetitions), names, arguments.workers, arguments.methods)
    record([(method, task, workers, number) for number, task, workers, method in order], arguments, path)
    regrets = compare.load(path, names, arguments.repetitions)
    regrets = regrets[regrets.workers.isin(arguments.workers) & regrets.method.isin(arguments.methods)]
    compare.write(regrets, arguments.folder)
    print(compare.table(regrets))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
