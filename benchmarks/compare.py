"""Tables and the picture of benchmarks/search.py, from the searches that it recorded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

KEYS = ["method", "task", "workers", "repetition"]
SHOWN = (25, 50, 100)  # percent of the budget in the tables
OURS = "ours"


def load(path: Path, tasks: list[str], repetitions: int) -> pd.DataFrame:
    """Return the regret of each search of some tasks.

    Args:
        path: searches.csv.
        tasks: Their names.
        repetitions: Only the first so many.

    Returns:
        The columns method, task, workers, repetition, seconds, and a float64 column of regrets named by each percent of
        the budget, an int. The best known point is the best of the random points and of all that any method reached.
    """
    table = pd.read_csv(path)
    worths = [name for name in table.columns if name.startswith("worth_")]
    reached = table[worths].min(axis=1).groupby(table.task).transform("min")
    best = np.minimum(table.best, reached)
    regrets = table[worths].sub(best, axis=0).div(table["median"] - best, axis=0)
    regrets.columns = pd.Index([int(name.removeprefix("worth_")) for name in worths])
    joined = pd.concat([table[[*KEYS, "seconds"]], regrets], axis=1)
    return joined[joined.task.isin(tasks) & (joined.repetition < repetitions)].reset_index(drop=True)


def parts(regrets: pd.DataFrame) -> list[int]:
    """Return the percents of the budget that have a column."""
    return [name for name in regrets.columns if isinstance(name, int)]


def standard_error(regrets: pd.DataFrame, columns: Sequence[int | str]) -> pd.Series:
    """Return the standard error of the mean of each column.

    Tasks differ much more than repetitions, and the tasks are the same for all methods: the error is that of the mean
    over repetitions, with the tasks given.
    """
    groups = regrets.groupby("task")[list(columns)]
    variances = groups.var().div(groups.count())
    return np.sqrt(variances.sum(skipna=False)) / len(variances)


def needed(regrets: pd.DataFrame, other: str) -> float:
    """Return the part of the budget, in percent, at which ours has another method's final mean regret; NaN: never."""
    columns = parts(regrets)
    means = regrets.groupby("method")[columns].mean()
    reached = means.loc[OURS] <= means.loc[other, columns[-1]]
    return float(reached.idxmax()) if reached.any() else float("nan")


def against_ours(regrets: pd.DataFrame, other: str) -> dict[str, float]:
    """Return what `summary` says of ours and another method, from searches with one number of workers."""
    pairs = regrets.pivot(index=["task", "repetition"], columns="method", values=parts(regrets)[-1])
    difference = (pairs[OURS] - pairs[other]).dropna().rename("difference").reset_index()
    return {
        "ours_minus": float(difference.difference.mean()),
        "ours_minus_error": float(standard_error(difference, ["difference"]).iloc[0]),
        "ours_needs": needed(regrets, other),
    }


def summary(regrets: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each number of workers and method: means, standard errors, and the comparison with ours.

    `ours_minus` is the mean over the pairs (same task and repetition) of our final regret minus the method's;
    `ours_minus_error` its standard error; `ours_needs` the percent of the budget that ours needs for as much.
    """
    rows = []
    for (workers, method), group in regrets.groupby(["workers", "method"], sort=False):
        shown = [part for part in SHOWN if part in parts(regrets)]
        row: dict[str, object] = {"workers": workers, "method": method, "searches": len(group)}
        errors = standard_error(group, shown)
        for part in shown:
            row |= {f"regret_{part}": group[part].mean(), f"error_{part}": errors[part]}
        row["milliseconds"] = 1000 * group.seconds.mean()
        same = regrets[regrets.workers == workers]
        if OURS in set(same.method) and method != OURS:
            row |= against_ours(same, str(method))
        rows.append(row)
    return pd.DataFrame(rows).sort_values(["workers", "regret_100"]).reset_index(drop=True)


def by_task(regrets: pd.DataFrame) -> pd.DataFrame:
    """Return the mean regret at the end: a row for each number of workers and task, a column for each method."""
    last = parts(regrets)[-1]
    return regrets.pivot_table(index=["workers", "task"], columns="method", values=last, sort=False).reset_index()


def table(regrets: pd.DataFrame) -> str:
    """Return the summary as text: regrets in hundredths, mean and standard error."""
    lines = []
    for row in summary(regrets).to_dict("records"):
        name = f"{row['workers']} worker{'s' if row['workers'] > 1 else ''}, {row['method']}"
        shown = [part for part in SHOWN if f"regret_{part}" in row]
        cells = [f"{100 * row[f'regret_{part}']:6.1f} ± {100 * row[f'error_{part}']:4.1f}" for part in shown]
        difference, needs = row.get("ours_minus", np.nan), row.get("ours_needs", np.nan)
        if np.isfinite(difference):
            cells.append(f"{100 * difference:6.1f} ± {100 * row['ours_minus_error']:4.1f}")
            cells.append(f"{needs:6.0f} %" if np.isfinite(needs) else "   never")
        lines.append(f"{name:36s} {row['searches']:5d}  {'  '.join(cells)}")
    heads = [f"at {part:3d} %      " for part in SHOWN] + ["ours minus it ", "ours needs"]
    title = f"{'100 x mean regret ± standard error':36s}     n   {'  '.join(heads)}"
    return "\n".join([title, *lines])


def draw(regrets: pd.DataFrame, path: Path) -> None:
    """Draw mean regret against the budget, with a band of one standard error; a panel for each number of workers."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib import ticker

    columns = parts(regrets)
    counts = sorted(set(regrets.workers))
    names = list(dict.fromkeys(regrets.method))
    figure, axes = plt.subplots(1, len(counts), figsize=(5.5 * len(counts), 4.5), sharey=True, squeeze=False)
    for axis, workers in zip(axes[0], counts, strict=True):
        for number, name in enumerate(names):
            group = regrets[(regrets.workers == workers) & (regrets.method == name)]
            means, errors = group[columns].mean(), standard_error(group, columns)
            # Ours is black and wide; ten colours, then the same dashed.
            colour = "black" if name == OURS else f"C{number % 10}"
            style = {
                "color": colour,
                "linewidth": 2.5 if name == OURS else 1.3,
                "linestyle": "-" if number < 10 else "--",
            }
            axis.plot(columns, means, label=name, **style)
            axis.fill_between(columns, means - errors, means + errors, color=colour, alpha=0.15, linewidth=0)
        axis.set(title=f"{workers} worker{'s' if workers > 1 else ''}", xlabel="budget used, %", yscale="log")
        axis.grid(alpha=0.3, which="both")
    axes[0][0].set_ylabel("mean regret")
    axes[0][0].yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes[0][0].yaxis.set_major_formatter("{x:g}")
    axes[0][0].yaxis.set_minor_formatter(ticker.NullFormatter())
    axes[0][-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    figure.savefig(path, dpi=80, bbox_inches="tight")
    plt.close(figure)


def write(regrets: pd.DataFrame, folder: Path) -> None:
    """Write regret.csv, tasks.csv and search.png."""
    summary(regrets).to_csv(folder / "regret.csv", index=False)
    by_task(regrets).to_csv(folder / "tasks.csv", index=False)
    draw(regrets, folder / "search.png")
