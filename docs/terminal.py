"""Draw the terminal of a sweep that runs as a picture: docs/terminal.svg.

python train.py -m search=quick hydra.sweeper.n_jobs=2 &
python docs/terminal.py quick --after 120
"""

import argparse
import io
import re
import sys
import time
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sweeper_digits.sweep.show import StudyReader, row, table
from sweeper_digits.sweep.verbs import find_queue

ROWS = 8
# Without the font of another server: a page that shows the picture asks nobody.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> None:
    """Wait, look at the study, and draw what its terminal shows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="name or folder")
    parser.add_argument("--after", type=float, default=0, help="seconds to wait")
    parser.add_argument("--storage", help="default: the database in the study's folder")
    parser.add_argument("--width", type=int, default=112, help="columns")
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("terminal.svg"))
    arguments = parser.parse_args()
    time.sleep(arguments.after)
    view = StudyReader(find_queue(arguments.storage, arguments.study), is_enumerated=False).look()
    console = Console(record=True, width=arguments.width, file=io.StringIO(), highlight=False, force_terminal=True)
    for trial in view.ended[-ROWS:]:
        is_best = view.best is not None and view.best.number == trial.number
        console.print(row(trial, view.objectives, view.names, is_best), no_wrap=True, overflow="ellipsis", markup=False)
    console.print(table(view, arguments.width, height=40))
    title = f"python train.py -m search={arguments.study} hydra.sweeper.n_jobs={len(view.running)}"
    arguments.to.write_text(console.export_svg(title=title, theme=MONOKAI, code_format=FORMAT), encoding="utf-8")
    print(arguments.to)


if __name__ == "__main__":
    main()
