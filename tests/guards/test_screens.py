"""What a stranger's database, run folder or plug-in says is shown as text, and counts for nothing that it is not."""

import contextlib
import csv
import html
import io
import json
import random
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from tests.conftest import ROOT, TINY
from tests.guards.conftest import Done, Program, write_npz

# A colour, an overwritten line, C1, a title, an override of the direction, a zero-width space, ends of lines.
NAME = "a\x1b[31mb\rc\x9bd\x1b]0;e\x07f\u202eg\u2066h\u200bi\u2028j\u2029k\u0085l\nerror: m\x00n"
NASTY = NAME + "\ud800"  # which no database takes as a name


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


ODD: list[Any] = [NASTY, "x" * 300_000, float("nan"), float("inf"), -1, -1.5, 10**400, True, None, [], {}, ""]
ODD += [nested(350), nested(3), [1, "a"], {"a": {"b": [1]}}, {NASTY: NASTY}, [[1, 2], 3], 2**63, [None]]
ODD += ["${oc.env:HOME}"]
OF_STUDY = ["watched 1", "steering", "code", "identity", "pruner", "sweep", "sweeper_digits:space"]
OF_STUDY += ["study:metric_names", "sweeper_digits:command", NAME]
OF_TRIAL = ["epochs", "error", "cut_off", "standard_error", "worker", "point", "point_from", "scout", "overrides", NAME]
OF_TRIAL += ["sweeper_digits:progress", "sweeper_digits:stop", "retry_history", "deaths", "failed_trial"]
OF_TRIAL += ["fixed_params", "objectives_by_epoch", "sweeper_digits:attached"]
# Values that come near to right ones.
NEAR: dict[str, list[Any]] = {
    "sweeper_digits:progress": [{"worker": NASTY, "epoch": 1, "epochs": 2}, {"epochs": "2"}, {"epoch": float("nan")}]
    + [{"loss": "low"}, {"epochs": 10**400, "epoch": 1}, {"worker": "[link=file:///]a[/b]", "epochs": -1, "epoch": -7}],
    "steering": [{"budget": {}, "command": {}}, {"budget": {"n_trials": "5"}, "command": {}, "n_jobs": "a"}]
    + [{"budget": 1}, {"budget": {"n_trials": None, "timeout": float("inf"), "n_epochs": None}, "command": {}}],
    "watched 1": [[1], [1, "a"], [1, float("nan")], [1, 1e300], ["a", "b"], [2, 1, 0, 4], {"a": 1}],
    "sweeper_digits:space": [{"distributions": {"a": "{"}, "is_enumerated": True}, {"distributions": {}}],
    "study:metric_names": [["a", "b", "c"], [1], [NASTY]],
    "pruner": [{"_target_": "os.system", "command": "touch bad"}, {"_target_": 1}, {"_target_": "${oc.env:HOME}"}],
    "retry_history": [["a"], [0.5], [[1]], [10**400]],
    "point": [{"a": nested(350)}, {NASTY: NASTY}],
    "sweep": [{"data": [1]}, {"fixed overrides": [1]}, {"conf/": 3}, {"fixed overrides": 3, "objective": []}],
}


def plain(done: Done) -> str:
    """The text of a command that is no traceback, and that controls no terminal."""
    assert "Traceback" not in done.text, done.text[-3000:]
    assert all(line.isprintable() for line in done.text.split("\n")), repr(done.text)[:3000]
    assert len(done.text) < 100_000
    return done.text


def refused(done: Done) -> str:
    """The one line of a command that refuses."""
    text = plain(done)
    assert done.status == 1 and text.count("\n") == 1 and text.startswith("error: "), text
    return text


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of one good study and of many that nobody would make."""
    found = f"sqlite:///{tmp_path_factory.mktemp('hostile') / 'optuna.db'}"
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage, draw = optuna.storages.RDBStorage(found), random.Random(0)
    good = optuna.create_study(study_name="good", storage=storage)
    for value in (0.5, 0.25):
        good.add_trial(optuna.create_trial(value=value, user_attrs={"epochs": 2, "standard_error": 0.01}))
    odd = [(name, value) for name in (*OF_STUDY, *OF_TRIAL) for value in (*draw.sample(ODD, 4), *NEAR.get(name, []))]
    for number, (name, value) in enumerate(odd):
        study = optuna.create_study(study_name=f"odd{number}", storage=storage)
        state = draw.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING])
        where = draw.choice(["user", "system"])
        given: Any = {f"{where}_attrs": {name: value}} if name in OF_TRIAL else {}
        kinds = {"x": FloatDistribution(0, 1), NAME: CategoricalDistribution([NAME, "b"])}
        trial = optuna.create_trial(
            state=state,
            value=1.0 if state == TrialState.COMPLETE else None,
            params={"x": 0.5, NAME: NAME},
            distributions=kinds,
            intermediate_values={0: 1.0, 2**31 - 1: float("nan")},
            **given,
        )
        with contextlib.suppress(ValueError):  # NaN and its like in another database
            study.add_trial(trial)
        if name in OF_STUDY:
            put = storage.set_study_user_attr if where == "user" else storage.set_study_system_attr
            put(study._study_id, name, value)
    study = optuna.create_study(study_name="watched", storage=storage)
    study.set_metric_names(["a\x1b[31mb\u202e\u2066c\u200bd\x9b\u2028e\nerror: f"])
    study.add_trial(optuna.create_trial(value=1.0, user_attrs={"error": NASTY}))
    for number in range(3):
        attrs = {"sweeper_digits:progress": {"worker": f"[b]{NASTY}/[/c]{number}", "epoch": 1, "epochs": 2}}
        study.add_trial(optuna.create_trial(state=TrialState.RUNNING, system_attrs=attrs))
    return found


def test_a_good_study_is_shown_beside_hostile_ones(program: Program, url: str) -> None:
    text = plain(program.tries_verb("status", "--storage", url))
    (good,) = [line for line in text.splitlines() if line.startswith("good ")]
    assert "2 done" in good and "0.25 ± 0.01 #1" in good
    text = plain(program.tries_verb("status", "--storage", url, "--json"))
    assert '"study": "good"' in text
    assert "good: 2 complete" in plain(program.tries_verb("doctor", "--storage", url))


def test_each_hostile_study_is_shown_or_refused_in_a_line(program: Program, url: str) -> None:
    names = [study.study_name for study in optuna.get_all_study_summaries(url)]
    calls = [["status"], ["status", "--json"], ["doctor", "--fix"], ["stop"], ["stop", "0"], ["change", "n_trials=5"]]
    calls += [["enqueue", "x=0.5"]]
    for number, name in enumerate(random.Random(1).sample(sorted(names), 45)):
        verb, *arguments = calls[number % len(calls)]
        given = [verb, "--storage", url, *(arguments if arguments[:1] == ["--fix"] else []), name]
        done = program.tries_verb(*given, *([] if arguments[:1] == ["--fix"] else arguments))
        if done.status:
            refused(done)
        plain(done)


def test_a_page_that_is_watched_controls_no_terminal(program: Program, url: str) -> None:
    study = optuna.load_study(study_name="watched", storage=url)
    study.set_user_attr("watched 1", [time.time() - 100, time.time() - 14])
    text = plain(program.tries_verb("status", "--storage", url, "watched", "--watch"))
    assert "watched: the sweep runs" in text and "best #0" in text


def write_tiny(program: Program, digits: Any) -> list[str]:
    """Overrides of a sweep that takes seconds, on 100 digits."""
    return [*write_npz(program.folder / "small.npz", digits.images[::3], digits.labels[::3]), *TINY, "epochs=1"]


def local(program: Program, name: str) -> str:
    """The URL of the database of a study in the program's folder."""
    (program.folder / "multirun" / name).mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{program.folder}/multirun/{name}/study.db"


def test_a_sweep_refuses_a_hostile_study(program: Program, digits: Any) -> None:
    sweep = write_tiny(program, digits)
    settings: dict[str, Any] = {"fixed overrides": [], "conf/": {}}
    odd: dict[str, dict[str, Any]] = {"a": {"sweep": [NASTY]}, "b": {"identity": {}}, "c": {"sweep": settings}}
    for name, given in odd.items():
        study = optuna.create_study(study_name=name, storage=local(program, name))
        study.add_trial(optuna.create_trial(value=0.5, user_attrs={"epochs": NASTY, "worker": "x:1:y:2"}))
        for key, value in given.items():
            study.set_user_attr(key, value)
        text = refused(program.tries_to_train("-m", *sweep, f"study={name}", "seed=1,2"))
        assert "not readable" in text and f"{name}: " in text
        assert len(study.get_trials()) == 1


def test_trials_of_another_program_count_for_nothing(program: Program, digits: Any) -> None:
    sweep = [*write_tiny(program, digits), "study=mixed", "optimizer.learning_rate=interval(0.001,0.1)"]
    program.sweep(*sweep, "hydra.sweeper.n_trials=2")
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.load_study(study_name="mixed", storage=local(program, "mixed"), sampler=sampler)
    own = study.best_trial
    space: dict[str, BaseDistribution] = {"optimizer.learning_rate": FloatDistribution(0.001, 0.1)}
    # The other program takes the next trial of the queue first, here one that continues another.
    queued = {"fixed_params": {"optimizer.learning_rate": 0.01}, "retry_history": [0]}
    study.add_trial(optuna.create_trial(state=TrialState.WAITING, system_attrs=queued))
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
        trial = study.ask(space)  # as Hydra's own sweeper asks and tells
        trial.report(1e-6, 0)
        study.tell(trial, 1e-6 if state == TrialState.COMPLETE else None, state=state)
    study.ask(space)
    totals, best_line = program.verb("status", "mixed").splitlines()[-2:]
    assert "2/2 done, 4 of another program" in totals and "2/2 done, 4 of another program" in program.verb("status")
    assert best_line.startswith(f"best #{own.number}: val_loss {own.value:.5g}")
    found = json.loads(program.verb("status", "mixed", "--json"))
    assert found["best"]["number"] == own.number and found["trials"]["complete"] == 2
    assert program.verb("doctor", "mixed").count("another program ran this trial") == 4
    text = program.sweep(*sweep, "hydra.sweeper.n_trials=3")
    assert "another program ran #2, #3, #4, #5: not counted, not ranked" in text
    trials = study.get_trials()
    ours = [trial for trial in trials if "worker" in trial.user_attrs]
    assert [trial.number for trial in ours] == [0, 1, 6], "the third of three, and no trial of the other is run again"
    assert [trial.state for trial in trials[2:6]][-1] == TrialState.RUNNING, "the other program may go on"
    best = min(ours, key=lambda trial: trial.value)
    assert f"best       #{best.number}: val_loss {best.value:.5g}" in text
    results = yaml.safe_load((program.folder / "multirun/mixed/optimization_results.yaml").read_text())
    assert results["best_value"] == best.value and results["trials"]["complete"] == 3
    table = (program.folder / "multirun/mixed/trials.csv").read_text().splitlines()
    assert sum("COMPLETE" in line for line in table) == 3
    assert "1e-06" not in text + "".join(table)


LINK = '<a href="https://evil.example/">best</a><br><b>x</b>&lt;i&gt;'
FORMULA = '=HYPERLINK("https://evil.example")'


class Tags(HTMLParser):
    """Collects where a page leads to, and the JSON that it holds, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.json: dict[str, str] = {}
        self.open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.links += [str(given[name]) for name in ("href", "src") if name in given]
        self.open = str(given["id"]) if given.get("type") == "application/json" else ""

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open:
            self.json[self.open] = self.json.get(self.open, "") + data


def texts(node: Any) -> Iterator[str]:
    """All texts of a figure but its templates, which are of the program that draws it."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from () if key.endswith("template") else texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif isinstance(node, str):
        yield node


@pytest.fixture(scope="module")
def hostile_runs(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Path:
    """Folders of runs that say what no run says: of one objective, and of two."""
    program = Program(tmp_path_factory.mktemp("runs"))
    program.train(*write_tiny(program, digits), "hydra.run.dir=run")
    config = yaml.safe_load((program.folder / "run/.hydra/config.yaml").read_text())
    hydra = yaml.safe_load((program.folder / "run/.hydra/hydra.yaml").read_text())
    metrics = program.metrics("run")
    for sweep, objectives in (("one", [LINK]), ("two", [LINK, "seconds"])):
        for number in range(12):
            run = program.folder / sweep / f"{LINK.replace('/', '_')}{number}"
            shutil.copytree(program.folder / "run", run)
            odd = {f"x.{LINK}": number % 5, FORMULA: FORMULA if number % 2 else -0.5}
            odd["model"] = config["model"] | {"dropout": LINK if number % 3 else FORMULA}
            (run / ".hydra/config.yaml").write_text(yaml.safe_dump(config | odd))
            hydra["hydra"]["runtime"]["choices"]["optimizer"] = f"{LINK}{number % 2}"
            (run / ".hydra/hydra.yaml").write_text(yaml.safe_dump(hydra))
            named = {"objectives": objectives, "directions": {LINK: "minimize"}, LINK: 0.1 + (7 * number % 12) / 10}
            named |= {"seconds": 100 - number, "classes": [f"{LINK}{one}" for one in range(10)], "device": LINK}
            named |= {"data": LINK, "versions": {LINK: LINK}, "error": LINK}
            named |= {"state": "finished" if number else "failed"}
            (run / "metrics.json").write_text(json.dumps(metrics | named))
    return program.folder


@pytest.mark.parametrize("sweep", ["one", "two"])
def test_a_report_has_no_tag_of_a_run(hostile_runs: Path, program: Program, sweep: str) -> None:
    text = plain(program.tries_verb("compare", str(hostile_runs / sweep), "--report", "report.html"))
    assert "a figure is missing" not in text
    page = Tags()
    page.feed((program.folder / "report.html").read_text(encoding="utf-8"))
    assert not [link for link in page.links if re.match(r"(?!data:)\w+:|//", link)] and "i" not in page.tags
    figures = {name: json.loads(found) for name, found in page.json.items() if name.startswith("plot")}
    shown = [text for figure in figures.values() for text in texts(figure)]
    assert len(figures) == 5 and not [text for text in shown if re.search(r"<(?!br>)", text)]
    # Shown as it is: what a browser makes of it is what was written.
    wanted = {LINK, f"x.{LINK}"} if sweep == "one" else {LINK}
    titles = {title for figure in figures.values() for title in texts(figure["layout"])}
    assert wanted <= {html.unescape(title) for title in titles}
    assert not [title for title in titles if "<" in title]
    hover = [text for text in shown if text.count("<br>") > 2]
    assert bool(hover) == (sweep == "two")
    assert all(html.unescape(LINK) not in text and "best" in text for text in hover)


def test_a_table_has_no_formula_and_its_numbers_stay_numbers(hostile_runs: Path, program: Program) -> None:
    rows = list(csv.reader(io.StringIO(program.verb("compare", str(hostile_runs / "one"), "--csv"))))
    cells = [cell for row in rows for cell in row]
    assert f"'{FORMULA}" in cells and "-0.5" in cells
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "@")]
    assert rows[0][1] == LINK and float(rows[1][1]) == 0.1 + min(7 * number % 12 for number in range(1, 12)) / 10


def test_a_changed_helper_of_a_plug_in_is_noticed(program: Program, digits: Any) -> None:
    files = {
        "mine.py": "import near\nfrom sweeper_digits import register\n"
        '@register("objective", direction="minimize")\ndef mine(probabilities, labels):\n'
        "    from helpers.deep import loss\n    return near.same(loss(probabilities, labels))\n",
        "near.py": "import importlib\ndef same(value):\n    return importlib.import_module('made_up').PART * value\n",
        "made_up.py": "PART = 1.0\n",
        "helpers/__init__.py": "",
        "helpers/deep.py": "from . import deeper as found\nloss = found.loss\n",
        "helpers/deeper.py": "def loss(found, labels):\n    return float((found.argmax(1) != labels).mean())\n",
        "helpers/unused.py": "",
    }
    for name, text in files.items():
        (program.folder / name).parent.mkdir(exist_ok=True)
        (program.folder / name).write_text(text)
    sweep = [*write_tiny(program, digits), "study=own", "objective=mine", "seed=1,2", "hydra.sweeper.n_trials=1"]
    surroundings = {"SWEEPER_DIGITS_PLUGINS": "mine", "PYTHONPATH": f"{program.folder}:{ROOT}"}
    assert "1 complete" in program.sweep(*sweep, **surroundings)
    for changed in ("helpers/unused.py", "helpers/deeper.py", "made_up.py"):
        (program.folder / changed).write_text(files[changed] + "# changed\n")
        text = program.sweep(*sweep, **surroundings)
        assert ("the code changed since the sweep began" in text) == ("unused" not in changed), changed
        (program.folder / changed).write_text(files[changed])
