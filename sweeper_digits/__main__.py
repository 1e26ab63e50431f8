"""All of the program: `python -m sweeper_digits train|compare|confirm|predict|doctor`, installed as `sweeper-digits`.

`train` is `command_line.main`, which takes the rest of the command line. For the other verbs this module parses it;
each is the `main` of its module in `results`.
"""

import argparse
import importlib
import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from sweeper_digits import program, registry, screen
from sweeper_digits.quiet import quiet_import
from sweeper_digits.schema import DEFAULT_STORAGE


def main() -> None:
    """Do what the command line says."""
    if sys.argv[1:2] == ["train"]:
        from sweeper_digits import command_line  # only here: it imports more of Hydra than --help needs

        del sys.argv[1]
        command_line.main()
        return
    arguments = _parser().parse_args()
    if "storage" in arguments and arguments.storage is None:
        # Not the parser's default: --help prints defaults, and the URL may hold a password.
        arguments.storage = os.environ.get("OPTUNA_STORAGE", DEFAULT_STORAGE)
    screen.exit_in_one_line(lambda: _do(arguments))


def _do(arguments: argparse.Namespace) -> None:
    registry.load()
    with quiet_import():
        verb = importlib.import_module(f"sweeper_digits.results.{arguments.verb}")
    verb.main(arguments)


def _parser() -> argparse.ArgumentParser:
    text = "Train image classifiers, search for the best, and work with runs and sweeps that exist."
    parser = _Parser(prog=shlex.join(program.name()), description=text)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="train|compare|confirm|predict|doctor")
    verbs.add_parser("train", help="Train one model, or search for the best; train --help lists options and keys.")
    for name, add_arguments, text in (
        ("compare", _compare, "A table of runs, report.html, and the command that repeats the best."),
        ("confirm", _confirm, "Train the finalists of a sweep on more seeds or folds; rank them by their means."),
        ("predict", _predict, "Predict with finished runs: scores, a submission, or the labels of single pictures."),
        ("doctor", _doctor, "List studies, what is stuck in them, and their disk use."),
    ):
        add_arguments(verbs.add_parser(name, help=text, description=text))
    return parser


def _compare(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="a run, a sweep, or a folder with many of them")
    add("--sort", metavar="COLUMN", help="ascending")
    add("--descending", action="store_true", help="reverse the order of --sort")
    add("--top", type=_positive, metavar="N", help="show the first N rows")
    add("--filter", metavar="EXPRESSION", help="for example \"optimizer == 'adamw' and model.dropout < 0.2\"")
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--group-by", metavar="SETTING", help="mean, standard deviation, best and count for each of its values"
    )
    only.add_argument("--csv", action="store_true", help="print the table as CSV, nothing else")
    only.add_argument("--json", action="store_true", help="print the table as JSON, nothing else")
    add("--promote", metavar="NAME", help="write the best as conf/experiment/NAME.yaml")
    add("--force", action="store_true", help="let --promote replace a file")
    add("--report", type=Path, metavar="FILE", help="default: report.html in PATH")
    add("--no-report", action="store_true", help="write no report")
    _add_storage(parser)


def _confirm(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("sweep", type=Path, metavar="SWEEP", help="the sweep's folder, for example multirun/quick")
    add("--top", type=_positive, default=3, metavar="K", help="finalists (default: %(default)s)")
    add("--seeds", type=_positive, default=3, metavar="N", help="new seeds for each (default: %(default)s)")
    add("--folds", type=_positive, metavar="N", help="all of N folds for each, instead of seeds")
    add("--n-jobs", type=_positive, default=1, metavar="N", help="runs at a time (default: %(default)s)")


def _predict(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="+", metavar="RUN-SWEEP-OR-PICTURE")
    add("--top", type=_positive, default=1, metavar="K", help="average the K best runs (default: %(default)s)")
    add(
        "--weights",
        choices=["equal", "loss", "greedy"],
        default="equal",
        help="weights of the runs in the average (default: %(default)s)",
    )
    add(
        "--data",
        nargs="+",
        metavar="DATA",
        help="a file or folder, or an option, for example `kaggle part=test`; default: the run's own",
    )
    add("--part", choices=["test", "validation", "all"], help="of the run's own data; default: test if it has one")
    add("--tta", type=_positive, default=0, metavar="N", help="also average N augmented copies of each image")
    add("--out", type=Path, metavar="FILE", help=".csv: ImageId,Label; .npz: probabilities")


def _doctor(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("study", nargs="?", metavar="STUDY", help="the study's name; default: all")
    add("--fix", action="store_true", help="repair")
    _add_storage(parser)
    add("--multirun", type=Path, default=Path("multirun"), help="folder of the studies (default: %(default)s)")


def _add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--storage", metavar="URL", help=f"Optuna's (default: $OPTUNA_STORAGE, or {DEFAULT_STORAGE})")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and exit status 1, as everywhere in this program."""

    def error(self, message: str) -> NoReturn:
        """Exit."""
        sys.exit(f"error: {message}; {self.prog} --help lists what there is")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 1 on is needed")
    return int(text)


if __name__ == "__main__":
    main()
