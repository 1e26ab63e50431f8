"""How long until something happens: `--help`, the first epoch; and the most memory a run takes.

python benchmarks/start.py [--repeats 5] [key=value ...]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def help_seconds() -> float:
    """Return the wall time of `python train.py --help`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, str(ROOT / "train.py"), "--help"], check=True, capture_output=True)
    return time.perf_counter() - started


def first_epoch(folder: Path, overrides: list[str]) -> tuple[float, float, float]:
    """Return seconds until the first epoch of a run ended, seconds of that epoch, and peak MiB."""
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), f"hydra.run.dir={folder}", "epochs=1", "figures=false"]
    command += overrides
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    history = folder / "history.csv"
    while not history.exists() and process.poll() is None:
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run failed with status {status}")
    return seconds, float(history.read_text().splitlines()[1].split(",")[6]), usage.ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the run; default: the plain default")
    arguments = parser.parse_args()
    helps = [help_seconds() for _ in range(arguments.repeats)]
    runs = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(first_epoch(Path(folder), arguments.overrides))
    waits, epochs, peaks = zip(*runs, strict=True)
    for name, found, unit in (
        ("python train.py --help", helps, "s"),
        ("until the first epoch ended", waits, "s"),
        ("  of that, the epoch itself", epochs, "s"),
        ("peak memory", peaks, "MiB"),
    ):
        digits = 0 if unit == "MiB" else 2
        least, most = f"{min(found):.{digits}f}", f"{max(found):.{digits}f}"
        print(f"{name:30s} {statistics.median(found):8.{digits}f} {unit}  ({least} - {most})")


if __name__ == "__main__":
    main()
