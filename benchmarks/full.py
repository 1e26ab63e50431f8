"""A search in reality: what search=full finds in the same wall time, with our defaults and with the earlier ones.

    python benchmarks/full.py [--seeds 0 1 2 3 4] [--seconds 300]

The two searches of a seed run at the same time, each with one worker on a core of its own. 1,000 of the packaged digits
are locked away; the model of the best trial by val_loss is scored on them.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sweeper_digits.runs.predictions import error_of_mean

ROOT = Path(__file__).resolve().parents[1]
SEARCHES: dict[str, list[str]] = {
    "ours": [],
    "earlier default": ["hydra/sweeper/pruner=median", "hydra.sweeper.sampler.multivariate=true", "search.prior=0"],
}


def begin(name: str, seed: int, core: int, arguments: argparse.Namespace) -> tuple[Path, "subprocess.Popen[bytes]"]:
    """Start a search on a core; return its folder and its process."""
    study = f"{name.split()[0]}_{seed}"
    options = ["search=full", f"study={study}", f"seed={seed}", f"hydra.sweeper.sampler.seed={seed}"]
    options += ["hydra.sweeper.n_trials=null", f"hydra.sweeper.timeout={arguments.seconds}", *SEARCHES[name]]
    options += ["split.test_size=0.2", *arguments.overrides]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with (arguments.folder / f"{study}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), "-m", *options],
            cwd=arguments.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    return arguments.folder / "multirun" / study, process


def scores_of(folder: Path) -> dict[str, float]:
    """Return the best val_loss of a search, and the scores of that model on the locked part."""
    best = yaml.safe_load((folder / "optimization_results.yaml").read_text())["best_value"]
    command = [sys.executable, "-m", "sweeper_digits", "predict", str(folder), "--top", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    scores = json.loads(done.stdout)["scores"]
    return {"val_loss": best, "locked loss": scores["log_loss"], "locked accuracy": scores["accuracy"]}


def summary(values: list[float]) -> str:
    """Return a mean and its standard error."""
    return f"{np.mean(values):.4f} ± {error_of_mean(np.array(values)):.4f}"


def main() -> None:
    """Search, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=Path("multirun/full"))
    parser.add_argument("overrides", nargs="*", help="more overrides of both searches")
    arguments = parser.parse_args()
    arguments.folder = arguments.folder.resolve()
    cores = sorted(os.sched_getaffinity(0))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SEARCHES}
    for seed in arguments.seeds:
        # The cores change hands from seed to seed.
        begun = [begin(name, seed, cores[(seed + n) % len(cores)], arguments) for n, name in enumerate(SEARCHES)]
        for name, (folder, process) in zip(SEARCHES, begun, strict=True):
            process.wait()
            scores = scores_of(folder)
            found[name].append(scores)
            shown = "  ".join(f"{key} {value:.4f}" for key, value in scores.items())
            print(f"seed {seed}  {name:16}  {shown}", flush=True)
    for key in found["ours"][0]:
        for name, rows in found.items():
            print(f"{key:15} {name:16} {summary([row[key] for row in rows])}")
        pairs = [one[key] - other[key] for one, other in zip(*found.values(), strict=True)]
        print(f"{key:15} {'difference':16} {summary(pairs)}")


if __name__ == "__main__":
    main()
