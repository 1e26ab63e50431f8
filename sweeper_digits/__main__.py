"""All of the program: `python -m sweeper_digits train|compare|confirm|...`, installed as `sweeper-digits`.

`train` is `command_line.main`, which takes the rest of the command line. For the other verbs this module parses it.
"""

import argparse
import importlib
import os
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any, NoReturn

from sweeper_digits import bad_input, components, program, screen
from sweeper_digits.quiet import quiet_import
from sweeper_digits.text import printable

# Module and function of each verb but `train`.
DONE_BY = {
    "compare": ("results.compare", "main"),
    "confirm": ("results.confirm", "main"),
    "predict": ("predict.predict", "main"),
    "doctor": ("results.doctor", "main"),
    "status": ("sweep.verbs", "status"),
    "enqueue": ("sweep.verbs", "enqueue"),
    "stop": ("sweep.verbs", "stop"),
    "change": ("sweep.verbs", "change"),
    "schema": ("editors", "main"),
}
WIDTH = 80  # columns of --help
STATUSES = """\
exit status:
  0    done; of a search: at least one trial is complete, also if others failed
  1    not done, and the last line of stderr, `error: ...`, says why: bad input,
       a run that diverged, a search of which all trials failed or
       hydra.sweeper.max_failures in a row
  130  stopped by Ctrl-C, a search also by SIGTERM; the same command continues
"""


def main() -> None:
    """Do what the command line says."""
    if sys.argv[1:2] == ["train"]:
        from sweeper_digits import command_line  # only here: it imports more of Hydra than --help needs

        del sys.argv[1]
        command_line.main()
        return
    arguments = parser().parse_args()
    if "storage" in arguments and arguments.storage is None:
        # Not the parser's default: --help prints defaults, and the URL may hold a password.
        arguments.storage = os.environ.get("OPTUNA_STORAGE")
    bad_input.exit_in_one_line(lambda: _do(arguments))


def _do(arguments: argparse.Namespace) -> None:
    components.load()
    with quiet_import(keep_optional_imports=components.has_users()):
        module, function = DONE_BY[arguments.verb]
        verb = getattr(importlib.import_module(f"sweeper_digits.{module}"), function)
    with screen.printed():
        verb(arguments)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, for which `shtab` writes a completion too."""
    text = "Train image classifiers, search for the best, and work with runs and sweeps that exist."
    parser = _Parser(
        prog=shlex.join(program.name()),
        description=textwrap.fill(text, WIDTH),
        epilog=STATUSES,
        formatter_class=_Formatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("train", help="Train one model, or search for the best; train --help lists options and keys.")
    for name, add_arguments, text, more, example in VERBS:
        written = f"{textwrap.fill(more, WIDTH)}\n\nexample:\n  {program.command(name)} {example}"
        verb = verbs.add_parser(
            name, help=text, description=textwrap.fill(text, WIDTH), epilog=written, formatter_class=_Formatter
        )
        add_arguments(verb)
    return parser


def _compare(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _add_path(parser, "paths", str, nargs="+", metavar="PATH", help="a run, a sweep, or a folder with many of them")
    add("--sort", metavar="COLUMN", help="ascending")
    add("--descending", action="store_true", help="reverse the order of --sort")
    add("--top", type=_positive, metavar="N", help="show the first N rows")
    add("--filter", metavar="EXPRESSION", help="for example \"optimizer == 'adamw' and model.dropout < 0.2\"")
    table = parser.add_mutually_exclusive_group()
    table.add_argument(
        "--group-by",
        metavar="SETTING",
        help="mean, standard deviation, best and count of finished runs and mean rank of all, for each of its values",
    )
    table.add_argument(
        "--verdict", action="store_true", help="no table: whether the best is told apart from the others"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print the table as CSV, nothing else")
    form.add_argument("--json", action="store_true", help="print the table or the verdict as JSON, nothing else")
    add("--promote", metavar="NAME", help="write the best as conf/experiment/NAME.yaml")
    add("--force", action="store_true", help="let --promote replace a file")
    _add_path(parser, "--report", metavar="FILE", help="default: report.html in PATH")
    add("--no-report", action="store_true", help="write no report")
    add("--watch", action="store_true", help="rewrite the report whenever runs go on, until Ctrl-C")
    _add_storage(parser)


def _confirm(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _add_path(parser, "sweep", metavar="SWEEP", help="the sweep's folder, for example multirun/quick")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="of all runs, for example callbacks=[tensorboard]")
    add("--top", type=_positive, default=3, metavar="K", help="finalists (default: %(default)s)")
    add("--seeds", type=_positive, default=3, metavar="N", help="new seeds for each (default: %(default)s)")
    add("--folds", type=_positive, metavar="N", help="all of N folds for each, instead of seeds")
    add("--n-jobs", type=_positive, default=1, metavar="N", help="runs at a time (default: %(default)s)")
    _add_json(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _add_path(
        parser,
        "paths",
        str,
        nargs="+",
        metavar="PATH",
        help="runs or sweeps; also pictures, or folders of pictures, to be labelled",
    )
    add("--top", type=_positive, default=1, metavar="K", help="average the K best runs (default: %(default)s)")
    add(
        "--weights",
        choices=["equal", "loss", "greedy"],
        default="equal",
        help="weights of the runs in the average (default: %(default)s)",
    )
    _add_path(
        parser,
        "--data",
        str,
        nargs="+",
        metavar="DATA",
        help="a file or folder, or an option, for example `kaggle part=test`; default: the run's own",
    )
    add("--part", choices=["test", "validation", "all"], help="of the run's own data; default: test if it has one")
    add("--tta", type=_positive, default=0, metavar="N", help="also average N augmented copies of each image")
    _add_path(parser, "--out", metavar="FILE", help=".csv: ImageId,Label; .npz: probabilities")
    _add_json(parser)


def _doctor(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("study", nargs="?", metavar="STUDY", help="the study's name; default: all")
    add("--fix", action="store_true", help="delete temporary files")
    _add_storage(parser)
    _add_path(parser, "--multirun", default=Path("multirun"), help="folder of the studies (default: %(default)s)")
    _add_json(parser)


def _status(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("study", nargs="?", metavar="STUDY", help="name or folder; default: the one that runs, or a line for each")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--watch", action="store_true", help="go on until the sweep ends")
    form.add_argument("--json", action="store_true", help="print one JSON document, nothing else")
    _add_storage(parser)


def _enqueue(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    parser.add_argument("point", nargs="+", metavar="KEY=VALUE", help="of the space; others are drawn")


def _stop(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    parser.add_argument("trial", nargs="?", type=int, metavar="TRIAL", help="number; default: the sweep")


def _change(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    parser.add_argument("values", nargs="+", metavar="KEY=VALUE", help="n_trials, timeout, n_epochs or n_jobs")


def _schema(parser: argparse.ArgumentParser) -> None:
    _add_path(parser, "folder", metavar="DIR", help="where the files go; made if it is not there")


def _add_path(parser: argparse.ArgumentParser, name: str, kind: type[Path] | type[str] = Path, **options: Any) -> None:
    """Add an argument for which the TAB key of a shell, by way of the package shtab, lists files."""
    argument = parser.add_argument(name, type=kind, **options)
    argument.complete = {"bash": "_shtab_compgen_files", "zsh": "_files"}  # type: ignore[attr-defined]


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document, nothing else")


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", help="name or folder")
    _add_storage(parser)


def _add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage", metavar="URL", help="Optuna's (default: $OPTUNA_STORAGE, or study.db in the study's folder)"
    )


# Name, arguments, what it does, what it prints, and arguments of an example.
VERBS = (
    (
        "compare",
        _compare,
        "Compare runs: a table, report.html, and the command that repeats the best.",
        "It prints a row for each run, best first, how sure it is that the first is the best, and the commands that "
        "repeat it.",
        "multirun/quick --sort seconds",
    ),
    (
        "confirm",
        _confirm,
        "Train the finalists of a sweep on more seeds or folds; rank them by their means.",
        "It prints what a search prints, then a line for each finalist: its mean with a 95 % interval, and whether it "
        "is worse than the first. The same command continues it.",
        "multirun/quick --top 3 --seeds 3",
    ),
    (
        "predict",
        _predict,
        "Predict with finished runs: scores, a submission, or the labels of single pictures.",
        "It prints the accuracy and the log loss of labelled images, and writes the labels of others into --out. Of "
        "pictures, it prints a line for each; if one has no label, the exit status is 1.",
        "multirun/quick --top 5",
    ),
    (
        "doctor",
        _doctor,
        "List studies, what is stuck in them, and their disk use.",
        "It prints the states of each study's trials, what is wrong, and what --fix would do. The exit status is 0 "
        "also if something is wrong.",
        "quick --fix",
    ),
    (
        "status",
        _status,
        "Show a sweep as its own terminal does, from anywhere.",
        "It prints the trials that run, how far they are and how they compare, what is left of the budget, and the "
        "best trial.",
        "quick --watch",
    ),
    (
        "enqueue",
        _enqueue,
        "Add a point to a sweep that runs.",
        "It prints the number of the trial. The point is tried next, and counts as one of n_trials.",
        "quick optimizer.learning_rate=0.01",
    ),
    (
        "stop",
        _stop,
        "End a trial of a sweep that runs, or the sweep.",
        "It prints what happens next. A trial is pruned when its epoch ends. A sweep stops as at Ctrl-C: its command, "
        "given again, goes on.",
        "quick 12",
    ),
    (
        "change",
        _change,
        "Change the budget or the number of workers of a sweep.",
        "It prints the budget. A worker that is one too many gives its trial back, and another continues the trial.",
        "quick n_trials=100 n_jobs=4",
    ),
    (
        "schema",
        _schema,
        "Write JSON Schemas by which an editor completes and checks the YAML files of conf/.",
        "It prints the line for the top of a YAML file and the setting of Visual Studio Code that name them. Parts of "
        "plug-ins are in them: write them again once there are others.",
        "schemas",
    ),
)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of one width, whatever the terminal's."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and exit status 1, as everywhere in this program."""

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {printable(message)}; {self.prog} --help lists what there is")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 1 on is needed")
    return int(text)


if __name__ == "__main__":
    main()
