"""`compare --watch`: the report follows the runs, and its page reloads itself until it is finished."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeper_digits.results import watch
from tests.refusals import not_refused

Tool = Callable[..., str]
SWEEP = Path("multirun/first")
REPORT = SWEEP / "report.html"
LIVE = '<html lang="en" data-live>'


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def states() -> str:
    """What the report says of its runs, and whether it is live."""
    text = REPORT.read_text(encoding="utf-8") if REPORT.exists() else ""
    found = re.search(r'<div class="soft">(.*?) ·', text)
    return f"{'live' if LIVE in text[:200] else 'done'}: {found[1]}" if found else ""


@pytest.mark.slow
def test_it_is_rewritten_when_a_run_ends_and_finished_by_ctrl_c(tool: Tool, tmp_path: Path) -> None:
    metrics = SWEEP / "3" / "metrics.json"
    kept = metrics.read_bytes()
    metrics.unlink()  # it goes on
    command = [sys.executable, "-m", "sweeper_digits", "compare", "multirun/first", "--watch"]
    printed = tmp_path / "printed"
    with printed.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: states() == "live: 3 finished, 1 unfinished")
        metrics.write_bytes(kept)
        # The line comes after the page: Ctrl-C between the two leaves it out.
        wait_for(lambda: "  4 finished; " in printed.read_text())
        assert states() == "live: 4 finished"
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert states() == "done: 4 finished"
    lines = [line[len("12:34:56  ") :] for line in printed.read_text().splitlines()]
    assert lines[0].startswith("3 finished, 1 unfinished; best val_loss ")
    assert lines[-1].startswith("4 finished; best val_loss ")


def test_it_writes_only_when_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "sweep" / "0"
    written: list[tuple[int, bool]] = []
    pauses: list[float] = []

    def begin() -> None:
        (run / ".hydra").mkdir(parents=True)
        (run / ".hydra" / "config.yaml").touch()

    def interrupt() -> None:
        raise KeyboardInterrupt

    def rewrite(live: bool) -> str:
        written.append((len(pauses), live))
        return ""

    happens = [lambda: None, begin, lambda: None, (run / "history.csv").touch, (run / "model.keras").touch, interrupt]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        happens[len(pauses) - 1]()

    (tmp_path / "sweep").mkdir()
    monkeypatch.setattr(os, "nice", lambda _: 0)
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        watch.watch([str(tmp_path)], tmp_path / "report.html", rewrite)
    assert written == [(2, True), (4, True)] and set(pauses) == {watch.PAUSE}


def test_what_makes_no_sense_beside_it_is_refused(tool: Tool) -> None:
    others = ["--csv", "--json", "--group-by optimizer", "--verdict", "--no-report", "--sort rank", "--promote x"]
    table = [(one.split(), f"^error: --watch rewrites the report.*leave {one.split()[0]} out$") for one in others]
    assert not_refused(lambda given: tool("compare", "multirun/first", "--watch", *given), table) == []


def test_a_path_that_is_not_there_ends_it(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "nice", lambda _: 0)
    with pytest.raises(SystemExit, match=r"^error: nowhere: No such file or directory$"):
        tool("compare", "nowhere", "--watch")


def test_more_is_to_come_while_a_run_goes_on_and_a_minute_longer(tmp_path: Path) -> None:
    run, long_ago = tmp_path / "0", time.time() - 2 * watch.QUIET
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "config.yaml").touch()
    (run / "model.keras").touch()  # of which the report shows nothing

    def files() -> watch.Files:
        return watch.files_below([str(tmp_path)])

    os.utime(run / ".hydra" / "config.yaml", (long_ago, long_ago))
    assert [Path(file).name for file in files()] == ["config.yaml"] and watch.runs_in(files()) == {str(run)}
    assert watch.is_live(files())
    (run / "metrics.json").touch()
    assert watch.is_live(files())
    os.utime(run / "metrics.json", (long_ago, long_ago))
    assert not watch.is_live(files())
    shutil.rmtree(run)
    assert not watch.is_live(files()) and not files()


def opened(tool: Tool, browser: Any, live: bool) -> Any:
    """The report in a page whose clock the test sets."""
    tool("compare", "multirun/first")
    text = REPORT.read_text(encoding="utf-8")
    REPORT.write_text(text.replace('<html lang="en">', LIVE) if live else text, encoding="utf-8")
    page = browser.new_page(viewport={"width": 1400, "height": 400})
    page.clock.install(time=0)
    page.clock.pause_at(1000)  # from here on, it goes when the test says so
    page.goto(f"file://{REPORT.resolve()}")
    page.evaluate("window.before = true")
    return page


def test_a_page_of_runs_that_go_on_reloads_itself_and_stays_where_its_reader_was(tool: Tool, browser: Any) -> None:
    page = opened(tool, browser, live=True)
    assert "this page reloads itself" in page.locator("body").inner_text()
    page.locator("#runs th button").filter(has_text="val_loss").click()
    page.locator("#runs th button").filter(has_text="val_loss").click()
    page.locator("#filter").fill("adam")
    page.evaluate("scrollTo(0, 777)")
    page.clock.run_for(4000)
    assert page.evaluate("window.before")
    finished = REPORT.read_text(encoding="utf-8").replace(" data-live", "", 1)
    REPORT.write_text(finished.replace("4 finished", "5 finished", 1), encoding="utf-8")
    page.clock.run_for(2000)
    page.wait_for_function("window.before === undefined && document.readyState === 'complete'")
    assert "5 finished" in page.locator("body").inner_text()
    assert page.locator("#filter").input_value() == "adam" and page.locator("#runs tbody tr").count() == 2
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("val_loss")
    assert page.evaluate("[scrollY, document.activeElement.id]") == [777, "filter"]
    page.close()


def test_a_finished_page_does_not_reload(tool: Tool, browser: Any) -> None:
    page = opened(tool, browser, live=False)
    assert "reloads itself" not in page.locator("body").inner_text()
    page.clock.run_for(200_000)
    assert page.evaluate("window.before")
    page.close()


def test_a_page_on_which_nothing_is_new_reloads_ever_more_rarely(tool: Tool, browser: Any) -> None:
    page = opened(tool, browser, live=True)
    page.clock.run_for(5500)
    page.wait_for_function("window.before === undefined && document.readyState === 'complete'")
    page.evaluate("window.before = true")
    page.clock.run_for(9000)
    assert page.evaluate("window.before")
    page.clock.run_for(1500)
    page.wait_for_function("window.before === undefined && document.readyState === 'complete'")
    page.close()
