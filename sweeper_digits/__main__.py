"""What is done with runs that exist: `python -m sweeper_digits compare|confirm|predict|doctor`."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from sweeper_digits import command_line, screen
from sweeper_digits.errors import UserError
from sweeper_digits.schema import DEFAULT_STORAGE


def main() -> None:
    """Parse the command line and do it."""
    arguments = _parser().parse_args()
    screen.exit_in_one_line(lambda: arguments.do(arguments))


def _compare(arguments: argparse.Namespace) -> None:
    from sweeper_digits.results import compare
    from sweeper_digits.runs import recipe
    from sweeper_digits.runs import record as records

    if (arguments.csv or arguments.json or arguments.group_by) and (arguments.promote or arguments.report):
        raise UserError("--csv, --json and --group-by print a table, nothing else; leave --promote and --report out")
    found = records.find(arguments.paths)
    if arguments.filter:
        found = compare.filtered(found, arguments.filter)
    frame = compare.shape(compare.table(found), arguments.sort, arguments.descending, arguments.top)
    if arguments.csv or arguments.json:
        print((compare.as_csv if arguments.csv else compare.as_json)(frame), end="")
        return
    if arguments.group_by:
        print(compare.as_text(compare.by_setting(found, arguments.group_by)))
        return
    print(compare.as_text(frame))
    objective = records.objectives_of(found)[0]
    groups = compare.configurations(found, objective)
    if not groups:
        print("\nno run has finished")
        return
    best = groups[0].runs[0]
    compose = recipe.composer(command_line.CONF)
    command = recipe.command_of(best, compose)
    if len(groups) > 1:
        print(f"\n{compare.difference(groups[0], groups[1], objective)[1]}")
    if len(groups[0].samples) > 1:
        group = groups[0]
        print(
            f"best       {objective} {group.mean:.5g} ± {group.interval:.2g} over {len(group.samples)} seeds or folds"
        )
    print(f"\nthe best again:\n  {command}\n  python train.py from_run={os.path.relpath(best.run.folder)} seed=1")
    if arguments.promote:
        file = _promote(recipe.experiment_of(best, compose), arguments.promote, arguments.force)
        print(f"\nwritten    {os.path.relpath(file)}: python train.py experiment={arguments.promote}")
    if not arguments.no_report:
        from sweeper_digits.results import report
        from sweeper_digits.sweep.study import known_distributions

        path = arguments.report or _report_path(arguments.paths)
        names = {record.run.folder.resolve().parent.name for record in found}
        report.write(path, found, command, known_distributions(arguments.storage, names))
        print(f"\nreport     {path}")


def _promote(experiment: str, name: str, replace: bool) -> Path:
    file = command_line.CONF / "experiment" / f"{name}.yaml"
    if file.exists() and not replace:
        raise UserError(f"--promote {name}: {file} exists; choose another name, or add --force")
    file.write_text(experiment)
    return file


def _confirm(arguments: argparse.Namespace) -> None:
    from sweeper_digits.results import confirm
    from sweeper_digits.runs import record as records

    best = confirm.finalists(arguments.sweep, arguments.top)
    objective = records.objectives_of([record for group in best for record in group.runs])[0]
    made = confirm.points(best, arguments.seeds, arguments.folds)
    folder, status = confirm.train(arguments.sweep, made, arguments.n_jobs)
    if status:
        sys.exit(status)
    print("\n" + "\n".join(confirm.ranking(folder, best, made, objective)))


def _predict(arguments: argparse.Namespace) -> None:
    pictures = [Path(p) for p in arguments.paths if p.lower().endswith((".png", ".jpg", ".jpeg"))]
    runs = [path for path in arguments.paths if Path(path) not in pictures]
    _check_predict(arguments, runs, pictures)
    with screen.quiet_import():
        from sweeper_digits.data.pictures import read_pictures
        from sweeper_digits.results import predict
        from sweeper_digits.runs import recipe
        from sweeper_digits.training import run as training

    compose = recipe.composer(command_line.CONF)
    chosen = predict.members(runs, arguments.top)
    weights = predict.weights_of(chosen, arguments.weights)
    configs = predict.configs_of(chosen, compose)
    config = configs[0]
    for record, weight in zip(chosen, weights, strict=True):
        loss = record.value("val_loss")
        shown = "" if loss is None else f"  val_loss {loss:.5f}"
        print(f"model      {record.run.folder}  weight {weight:.3f}{shown}")
    if pictures:
        probabilities = predict.predict(chosen, weights, read_pictures(pictures), arguments.tta, compose)
        for path, row in zip(pictures, probabilities, strict=True):
            print(f"{path}  {row.argmax()}  {row.max():.1%}")
        return
    sample = None
    if arguments.data:
        option = predict.compose_config(predict.data_overrides(arguments.data, config), compose).data
        digits, part = training.load(option), "all"
        sample = predict.sample_ids(option)
    else:
        digits, part = predict.images_of(configs, arguments.part)
    print(f"data       {digits.source}: {len(digits.images):,} images ({part})")
    seen = predict.seen_in_training(configs, digits.images)
    known = "the training data is not at hand: not known how many of them were trained on" if seen is None else None
    print(f"           {known or f'{seen:,} of them occur in the training data'}")
    started = time.perf_counter()
    probabilities = predict.predict(chosen, weights, digits.images, arguments.tta, compose)
    seconds = time.perf_counter() - started
    print(f"predicted  in {seconds:.1f} s, {len(digits.images) / seconds:,.0f} images/s\n")
    if digits.labels is not None:
        print(predict.scores(probabilities, digits.labels))
        if part == "test":
            predict.note_test(chosen, probabilities, digits.labels)
    if out := arguments.out or (Path("submission.csv") if digits.labels is None else None):
        predict.write(out, probabilities, sample)
        print(f"written    {out}")


def _check_predict(arguments: argparse.Namespace, runs: list[str], pictures: list[Path]) -> None:
    if not runs:
        raise UserError("predict: name a run or a sweep, as predict multirun/quick 7.png")
    if arguments.out and arguments.out.suffix not in (".csv", ".npz"):
        raise UserError(f"--out {arguments.out}: the suffix must be .csv (labels) or .npz (probabilities)")
    if pictures and (arguments.data or arguments.part or arguments.out):
        raise UserError("predict: what pictures show is printed; leave out --data, --part and --out, or the pictures")
    if arguments.data and arguments.part:
        raise UserError("--part is a part of the run's own data; leave it out, or --data")


def _doctor(arguments: argparse.Namespace) -> None:
    from sweeper_digits.results import doctor

    diagnoses = doctor.diagnose(arguments.storage, arguments.multirun, arguments.study)
    repairs = [repair for diagnosis in diagnoses for repair in diagnosis.repairs]
    print("\n".join(line for diagnosis in diagnoses for line in diagnosis.lines) or "no studies")
    if not repairs:
        print("\nnothing to repair")
        return
    print("\nto repair:" if arguments.fix else "\n--fix would:")
    for text, do in repairs:
        print(f"  {text}", flush=True)
        if arguments.fix:
            do()


def _report_path(paths: list[str]) -> Path:
    return (
        Path(paths[0] if len(paths) == 1 else os.path.commonpath([Path(path).resolve() for path in paths]))
        / "report.html"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sweeper_digits", description="Work with runs and sweeps that exist."
    )
    commands = parser.add_subparsers(required=True, metavar="compare|confirm|predict|doctor")
    storage = os.environ.get("OPTUNA_STORAGE", DEFAULT_STORAGE)

    def command(name: str, do: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(do=do)
        return sub

    sub = command("compare", _compare, "A table of runs, report.html, and the command that repeats the best.")
    sub.add_argument("paths", nargs="+", metavar="PATH", help="a run, a sweep, or a folder with many of them")
    sub.add_argument("--sort", metavar="COLUMN", help="ascending")
    sub.add_argument("--descending", action="store_true", help="turn --sort round")
    sub.add_argument("--top", type=_positive, metavar="N", help="show the first N rows")
    sub.add_argument("--filter", metavar="EXPRESSION", help="as \"optimizer == 'adamw' and model.dropout < 0.2\"")
    only = sub.add_mutually_exclusive_group()
    only.add_argument(
        "--group-by", metavar="SETTING", help="mean, standard deviation, best and count for each of its values"
    )
    only.add_argument("--csv", action="store_true", help="print the table as CSV, nothing else")
    only.add_argument("--json", action="store_true", help="print the table as JSON, nothing else")
    sub.add_argument("--promote", metavar="NAME", help="write the best as conf/experiment/NAME.yaml")
    sub.add_argument("--force", action="store_true", help="let --promote replace a file")
    sub.add_argument("--report", type=Path, metavar="FILE", help="default: report.html in PATH")
    sub.add_argument("--no-report", action="store_true", help="write none")
    sub.add_argument("--storage", default=storage, help="Optuna URL (default: %(default)s)")

    sub = command(
        "confirm", _confirm, "Train the finalists of a sweep on more seeds or folds; rank them by their means."
    )
    sub.add_argument("sweep", type=Path, metavar="SWEEP", help="its folder, as multirun/quick")
    sub.add_argument("--top", type=_positive, default=3, metavar="K", help="finalists (default: %(default)s)")
    sub.add_argument(
        "--seeds", type=_positive, default=3, metavar="N", help="new seeds for each (default: %(default)s)"
    )
    sub.add_argument("--folds", type=_positive, metavar="N", help="all of N folds for each, instead of seeds")
    sub.add_argument("--n-jobs", type=_positive, default=1, metavar="N", help="runs at a time (default: %(default)s)")

    sub = command(
        "predict", _predict, "Predict with finished runs: scores, a submission, or what single pictures show."
    )
    sub.add_argument("paths", nargs="+", metavar="RUN-SWEEP-OR-PICTURE")
    sub.add_argument(
        "--top", type=_positive, default=1, metavar="K", help="average the K best runs (default: %(default)s)"
    )
    sub.add_argument(
        "--weights", choices=["equal", "loss", "greedy"], default="equal", help="of the runs in the average"
    )
    sub.add_argument(
        "--data",
        nargs="+",
        metavar="DATA",
        help="a file or folder, or an option as `kaggle part=test`; default: the run's own",
    )
    sub.add_argument(
        "--part", choices=["test", "validation", "all"], help="of the run's own data; default: test if it has one"
    )
    sub.add_argument(
        "--tta", type=_positive, default=0, metavar="N", help="also average N augmented copies of each image"
    )
    sub.add_argument("--out", type=Path, metavar="FILE", help=".csv: ImageId,Label; .npz: probabilities")

    sub = command("doctor", _doctor, "List studies, what is stuck in them, and their disk use.")
    sub.add_argument("study", nargs="?", metavar="STUDY", help="its name; default: all")
    sub.add_argument("--fix", action="store_true", help="repair")
    sub.add_argument("--storage", default=storage, help="Optuna URL (default: %(default)s)")
    sub.add_argument(
        "--multirun", type=Path, default=Path("multirun"), help="has the studies' folders (default: %(default)s)"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 1 on is needed")
    return int(text)


if __name__ == "__main__":
    main()
