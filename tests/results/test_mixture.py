"""Ranks of different data and copies of folders are said beneath the table and in the report."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from plotly.offline import get_plotlyjs

from sweeper_digits.results.table import describe_mixture
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.record import Record

Tool = Callable[..., str]


def run(**settings: object) -> Record:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return Record(RunFolder("nowhere/0"), "finished", {"data": "npz", "split": "holdout"} | named)


def test_runs_of_different_images_are_named_by_what_differs() -> None:
    same = [run(seed=seed, split__fold=seed, data__path="a.npz") for seed in range(3)]
    assert describe_mixture(same) == []
    unfinished = Record(RunFolder("nowhere/1"), "pruned", {"data": "idx"})
    assert describe_mixture([*same, unfinished]) == []
    (line,) = describe_mixture([*same, run(data__path="b.npz", data___target_="x")])
    assert line == (
        "the ranks may mix values of different images: 3 runs with data.path=a.npz, 1 run with data.path=b.npz; "
        "choose one group with --filter"
    )
    known = [run(data__path=path) for path in ("a.npz", "a.npz", "b.npz")]
    for one, content in zip(known, ("0123456789", "other", "0123456789"), strict=True):
        one.metrics["fingerprint"] = content
    assert describe_mixture([known[0], known[2]]) == [], "a copy at another path"
    (line,) = describe_mixture(known[:2])
    assert "the ranks mix values of different images: 1 run with content=01234567, 1 run with content=other;" in line
    (line,) = describe_mixture([known[0], run(data__path="a.npz")])
    assert "may mix" in line and "content=unknown" in line
    (line,) = describe_mixture([run(split__seed=0, split__validation_size=0.1), run(split__seed=1), run(split="kfold")])
    assert "1 run with split=holdout split.seed=0 split.validation_size=0.1" in line and "split=kfold" in line
    (line,) = describe_mixture([run(split__seed=seed, data__path="\x1b[2J") for seed in range(9)])
    assert line.count("split.seed=") == 4 and ", and 5 more groups; " in line and "\x1b" not in line


def test_compare_and_report_say_it(tool: Tool) -> None:
    assert "warning" not in tool("compare", "multirun")
    report = Path("multirun/report.html")
    assert "Warning: " not in report.read_text().replace(get_plotlyjs(), "")
    shutil.copytree("multirun/first", "multirun/a_copy")
    config = Path("multirun/a_copy/0/.hydra/config.yaml")
    config.write_text(re.sub(r"(?m)^(  test_size): .*", r"\1: 0.3", config.read_text()))
    out = tool("compare", "multirun")
    mixed = "the ranks mix values of different images: 7 runs with split.test_size=0.2, 1 run with split.test_size=0.3"
    copied = "multirun/a_copy is a copy of multirun/first: its runs are listed twice"
    assert out.count(f"\nwarning    {mixed}; choose one group with --filter\n") == 1
    assert out.count(f"\nwarning    {copied}\n") == 1
    assert out.index("folder") < out.index(mixed) < out.index("best ")
    text = report.read_text()
    assert f"Warning: {mixed}" in text and f"Warning: {copied}" in text
    assert copied in tool("compare", "multirun", "--group-by", "optimizer")
    assert "warning" not in tool("compare", "multirun/a_copy", "--filter", "split.test_size == 0.2")
    shutil.move("multirun/first", "multirun/moved")  # with its study's name gone, the first by name is taken
    assert "multirun/moved is a copy of multirun/a_copy" in tool("compare", "multirun")
