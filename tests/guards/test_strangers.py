"""What comes from a run folder, a database, a file of points or a name is plain text: it reads and starts nothing.

A secret stands in the environment. After each command it is looked for on the screen, in every file, in the database
and at a local HTTP server that the strangers' files name as a tracker.
"""

import http.server
import json
import re
import secrets
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from tests.conftest import TINY
from tests.guards.conftest import Done, Program, write_npz

SECRET = "SWEEPER_TEST_SECRET"
REFERENCE = f"${{oc.env:{SECRET}}}"
DIE = """
import os

import keras
from sweeper_digits import register


@register("callback", watches=True)
class die(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            os._exit(7)
"""


class Listener(http.server.BaseHTTPRequestHandler):
    """Answers no request, and keeps that there was one."""

    asked: list[str] = []  # noqa: RUF012 - of the whole module

    def do_GET(self) -> None:
        """Keep the request."""
        self.asked.append(f"{self.path} {self.headers}")
        self.send_error(404)

    do_POST = do_PUT = do_GET

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of the listener."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Program:
    """A sweep `s` of two trials and a run `cut` that was killed; not to be changed."""
    program = Program(tmp_path_factory.mktemp("made"))
    data = write_npz(program.folder / "small.npz", digits.images, digits.labels)
    (program.folder / "dies.py").write_text(DIE)
    program.sweep(
        *data, *TINY, "study=s", "model.dropout=0.1,0.2", "split.test_size=0.2", "hydra.sweeper.keep_models=2"
    )
    cut = ["-m", "sweeper_digits", "train", *data, *TINY, "hydra.run.dir=cut", "callbacks=[die]"]
    assert program.apart(*cut, SWEEPER_DIGITS_PLUGINS="dies").status == 7
    return program


class Watched(Program):
    """The program, with a secret in its environment that must stay there."""

    secret = ""

    def _here(self, arguments: tuple[str, ...], call: Callable[[], object]) -> Done:
        return self.checked(super()._here(arguments, call))

    def apart(self, *arguments: str, **environment: str) -> Done:
        """As there, and look for the secret."""
        return self.checked(super().apart(*arguments, HYDRA_FULL_ERROR="0", **environment))  # which Hydra runs set here

    def checked(self, done: Done) -> Done:
        """Look for the secret, and for what a stranger's file would have started."""
        assert self.secret not in done.text
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", done.text.replace("\r\n", "\n")), repr(done.text)
        assert "Traceback" not in done.text, done.text
        for file in self.folder.rglob("*"):
            assert self.secret not in file.name
            assert not file.is_file() or self.secret.encode() not in file.read_bytes(), file
        assert not Listener.asked and not list(self.folder.rglob("evil*"))
        if done.status:
            (line,) = [one for one in done.text.splitlines() if one.startswith("error: ")]
            assert len(line) < 2000
        return done


@pytest.fixture
def program(made: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A copy of the folder, and the program there."""
    shutil.copytree(made.folder, tmp_path, dirs_exist_ok=True)
    for name in (".study.json", "study.db"):
        assert list(tmp_path.rglob(name))
    program = Watched(tmp_path)
    program.secret = secrets.token_hex(16)
    monkeypatch.setenv(SECRET, program.secret)
    return program


def edit(file: Path, change: Callable[[Any], object]) -> None:
    """Change what a YAML or a JSON file holds."""
    held = yaml.safe_load(file.read_text())
    held = change(held) or held
    file.write_text(json.dumps(held) if file.suffix == ".json" else yaml.safe_dump(held))


def put(file: Path, key: str, value: object) -> None:
    """Set a value in a YAML or JSON file, `a.b.c`."""

    def change(held: Any) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            held = held.setdefault(parent, {})
        held[last] = value

    edit(file, change)


def hostile_settings(url: str) -> list[tuple[str, str, object]]:
    """What a stranger's run folder may hold: the file, the key, the value."""
    config, hydra, metrics = ".hydra/config.yaml", ".hydra/hydra.yaml", "metrics.json"
    tracker: dict[str, object] = {"_target_": "sweeper_digits.training.trackers.registered.mlflow"}
    tracker |= {"tracking_uri": f"{url}/{REFERENCE}", "experiment": REFERENCE, "model": False}
    return [
        *((config, key, REFERENCE) for key in ("data.path", "study", "from_run", "seed", "objective", "precision")),
        *(
            (config, key, REFERENCE)
            for key in ("model", "model.activation", "model._target_", "split.seed", "callbacks")
        ),
        *((config, key, [REFERENCE]) for key in ("export", "objective", "callbacks")),
        (config, "data.path", f"a ${{x}} \\{REFERENCE} ${{now:%Y}} ${{hydra:job.name}} ${{"),
        (config, "data.path", "${data.path}"),
        (config, "data.path", f"${{oc.decode:{REFERENCE}}}"),
        (config, "data.path", "\x1b[31m\u202eevil"),
        (config, "data.part", "${study}"),
        (config, "search.points", [{"callbacks": ["mlflow"]}]),
        (config, "callbacks", {"mlflow": tracker}),
        (config, "callbacks", {"evil": {"_target_": "os.system", "command": "touch evil"}}),
        (config, "callbacks", ["mlflow"]),
        (config, "model._target_", "os.system"),
        (config, f"model.{REFERENCE}", "x"),
        (config, "hydra", {"run": {"dir": "/tmp/evil"}}),
        (config, f"{REFERENCE}", "x"),
        *((hydra, f"hydra.runtime.choices.{group}", REFERENCE) for group in ("model", "data", "experiment")),
        (hydra, "hydra.runtime.choices.model", [REFERENCE]),
        (hydra, "hydra.runtime.choices.model", "../../../etc/passwd"),
        (hydra, "hydra.job.config_name", REFERENCE),
        (hydra, "hydra.runtime.cwd", REFERENCE),
        (hydra, "hydra.callbacks", {"evil": {"_target_": "os.system"}}),
        (hydra, "hydra.runtime.config_sources", [{"path": "theirs", "schema": "file", "provider": "command-line"}]),
        (hydra, "hydra.runtime.config_sources", [{"path": "evil", "schema": "pkg", "provider": "hydra.searchpath"}]),
        *((metrics, key, [REFERENCE]) for key in ("objectives", "classes")),
        *((metrics, key, REFERENCE) for key in ("data", "error", "versions", "git_commit", "device", "state")),
        (metrics, "directions", {REFERENCE: "minimize"}),
        (".hydra/overrides.yaml", "x", None),
    ]


OVERRIDES = [f"data.path={REFERENCE}", "callbacks=[mlflow]", "hydra.run.dir=/tmp/evil", "+hydra.callbacks.x={}", "-m"]
# A folder of configs that a run names, in which Hydra would follow what it composes.
THEIRS = f"defaults: [config, override model: '{REFERENCE}']\ndata: {{path: '{REFERENCE}'}}\n"


def taint(folder: Path, case: tuple[str, str, object]) -> None:
    """Put a stranger's value into a run folder."""
    name, key, value = case
    file = folder / name
    if name == ".hydra/overrides.yaml":
        file.write_text(yaml.safe_dump(OVERRIDES))
    elif file.exists():
        put(file, key, value)


@pytest.mark.parametrize("half", [0, 1])
def test_a_strangers_values_are_plain_text_to_what_composes_and_compares(program: Watched, url: str, half: int) -> None:
    (program.folder / "theirs").mkdir()
    (program.folder / "theirs" / "config.yaml").write_text(THEIRS)
    tainted = program.folder / "tainted"
    chosen = hostile_settings(url)[half::2]
    for number, hostile in enumerate(chosen):
        shutil.rmtree(program.folder / "multirun/s/0", ignore_errors=True)
        shutil.copytree(program.folder / "multirun/s/1", program.folder / "multirun/s/0")
        shutil.copytree(program.folder / "cut", program.folder / "bad")
        taint(program.folder / "multirun/s/0", hostile)
        taint(program.folder / "bad", hostile)
        shown = [] if "evil" in str(hostile[2]) else ["--cfg", "all"]  # which Hydra prints, whatever is in it
        program.tries_to_train("from_run=multirun/s/0", "figures=false", *shown)
        done = program.tries_to_train("resume=bad", *shown)
        if hostile[1] == "callbacks" and done.status == 0 and hostile[2] != REFERENCE:
            assert "callbacks=[" in done.text and "a run folder starts no callback; type that too" in done.text
        if hostile[2] == REFERENCE and hostile[1] in ("data.path", "seed"):
            assert done.status == 1 and f"type {hostile[1]}=... too" in done.text
        shutil.rmtree(program.folder / "bad")
        shutil.copytree(program.folder / "multirun/s/0", tainted / str(number))
        if number % 4 == 3 or number == len(chosen) - 1:
            together = sorted(f"tainted/{path.name}" for path in tainted.iterdir())
            done = program.tries_verb("compare", *together, "--no-report")
            for one in together if done.status else []:  # each, where one of them is refused
                program.tries_verb("compare", one, "--no-report")
            shutil.rmtree(tainted)


def test_a_strangers_run_starts_nothing_when_it_is_trained_and_predicted(program: Watched, url: str) -> None:
    tracker = next(value for _, key, value in hostile_settings(url) if key == "callbacks" and isinstance(value, dict))
    for folder in ("multirun/s/0", "multirun/s/1", "cut"):
        put(program.folder / folder / ".hydra/config.yaml", "callbacks", tracker)
        put(program.folder / folder / ".hydra/config.yaml", "study", REFERENCE)
        put(program.folder / folder / ".hydra/hydra.yaml", "hydra.callbacks", {"evil": {"_target_": "os.system"}})
        (program.folder / folder / ".hydra/overrides.yaml").write_text(yaml.safe_dump(OVERRIDES))
    says = "'callbacks=[mlflow]'"
    repeats = ["from_run=multirun/s/0", "epochs=1", "figures=false"]
    for typed in (["resume=cut", "hydra.run.dir=cut"], [*repeats, "hydra.run.dir=again"]):
        said = program.train(*typed)
        assert f"note       without {says}" in said and "folder  " in said
    for folder in ("multirun/s/0", "multirun/s/1"):
        for key in ("data", "git_commit", "device", "versions"):
            put(program.folder / folder / "metrics.json", key, REFERENCE)
    assert "log loss" in program.verb("predict", "multirun/s", "--top", "2").lower()
    for folder in ("multirun/s/0", "multirun/s/1"):
        put(program.folder / folder / "metrics.json", "classes", [REFERENCE, *"123456789"])
    renamed = program.tries_verb("predict", "multirun/s", "--top", "2")
    assert renamed.status == 1 and "label '0'" in renamed.text and REFERENCE in renamed.text
    program.verb("compare", "multirun/s")
    assert REFERENCE in (program.folder / "multirun/s/report.html").read_text()
    confirmed = program.apart("-m", "sweeper_digits", "confirm", "multirun/s", "--top", "1", "--seeds", "1")
    assert confirmed.status == 0, confirmed.text
    # The user types it, and it is started: the listener is asked, once it is typed.
    program.secret = "\0 not looked for"
    text = program.tries_to_train(*repeats, "hydra.run.dir=typed", "callbacks=[mlflow]")
    assert "a run folder starts no callback" not in text.text


POINTS = [
    ({"callbacks": ["mlflow"]}, "a point starts no callback"),
    ({"callbacks.mlflow.tracking_uri": "x"}, "a point starts no callback"),
    ({"resume": "cut"}, "is no key of a run"),
    ({"hydra.run.dir": "/tmp/evil"}, "is no key of a run"),
    ({"model._target_": "os.system"}, ""),
    ({"model": REFERENCE}, "no such option"),
    ({REFERENCE: 1}, "is no key of a run"),
]


def test_a_strangers_points_are_plain_text(program: Watched) -> None:
    file = program.folder / "points.yaml"
    data = ["data=npz", "data.path=small.npz", *TINY]
    for point, says in POINTS:
        if says:
            file.write_text(yaml.safe_dump([point]))
            done = program.tries_to_train("-m", *data, "study=listed", "search.points=points.yaml")
            assert done.status == 1 and says in done.text, done.text
    file.write_text(yaml.safe_dump([{"data.path": REFERENCE}, {"model.activation": f"x{REFERENCE}"}]))
    done = program.tries_to_sweep(*data, "study=listed", "search.points=points.yaml")
    assert REFERENCE in done.text and done.status == 1


def test_a_strangers_database_is_plain_text(program: Watched) -> None:
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{program.folder}/multirun/s/study.db")
    for point in ({"data.path": REFERENCE}, {"callbacks": ["mlflow"]}, {"model.dropout": REFERENCE}):
        attributes = {"point": point, "error": REFERENCE}
        queued: dict[str, Any] = {"user_attrs": attributes, "system_attrs": {"fixed_params": {}}}
        study.add_trial(optuna.create_trial(state=TrialState.WAITING, **queued))
    study.set_user_attr("evil", REFERENCE)
    program.tries_verb("status", "s")
    program.tries_verb("doctor")
    program.tries_verb("enqueue", "s", f"model.dropout={REFERENCE}")
    again = ["data=npz", "data.path=small.npz", *TINY, "study=s", "model.dropout=0.1,0.2", "split.test_size=0.2"]
    done = program.tries_to_sweep(*again, "hydra.sweeper.keep_models=2")
    assert "a point starts no callback" in done.text and REFERENCE in done.text
    found = (program.folder / "multirun/s/optimization_results.yaml").read_text()
    assert shlex.split(yaml.safe_load(found)["best_trial"]["command"])


NAMES = [
    "a b, (2)=c",
    "it's",
    'a "quoted" one',
    "[x] {y: 1}",
    "1e3",
    "null",
    "😀",
    "x" * 200,
    "-dash",
    "a;b|c&d $HOME #",
]


def test_a_folder_may_have_any_name_and_what_is_printed_can_be_typed(program: Watched) -> None:
    held = "multirun/s/0"
    for number, name in enumerate([*NAMES, f"a {REFERENCE} ${{b}} \\${{c}}"]):
        if number < 2:
            program.train(f"from_run={held}", "epochs=1", "figures=false", f"hydra.run.dir={name}")
            assert program.metrics(name)["epochs"] == 1
            shutil.rmtree(program.folder / name)
        (program.folder / held).rename(program.folder / name)
        held = name
        printed = program.verb("compare", f"./{name}", "--no-report")
        (again,) = re.findall(r"^  python -m sweeper_digits train (from_run=.*|'from_run=.*) seed=1$", printed, re.M)
        for typed in {f"from_run={name}", shlex.split(again)[0]}:
            composed = yaml.safe_load(program.train(typed, "--cfg", "job"))
            assert composed["model"]["filters"] == 4
    assert "images" in program.verb("predict", held)
    (program.folder / "cut").rename(program.folder / "cut, (1) 😀 ${x}")
    (program.folder / "small.npz").rename(program.folder / f"it's {REFERENCE}, (1).npz")
    program.train("resume=cut, (1) 😀 ${x}", f"data.path=it's {REFERENCE}, (1).npz", "hydra.run.dir=on (1), 😀")
    assert program.metrics("on (1), 😀")["data"].startswith("it's ${oc.env:")
    done = program.tries_to_train("from_run=on (1), 😀", r"hydra.run.dir=a\${x}")
    assert done.status == 1 and "rename the folder" in done.text
