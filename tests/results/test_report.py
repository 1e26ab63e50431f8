"""report.html in a real browser, and its text with hostile names."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from sweeper_digits.results import plots

Tool = Callable[..., str]
TABLE = re.compile(r'<script type="application/json" id="runs-data">(.*)</script>')


@pytest.fixture
def page(tool: Tool, browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    tool("compare", "multirun/first")
    opened = browser.new_page(viewport={"width": getattr(request, "param", 1400), "height": 900})
    errors: list[str] = []
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "request", lambda sent: None if sent.url.startswith(("file:", "data:", "blob:")) else errors.append(sent.url)
    )
    opened.goto(f"file://{Path('multirun/first/report.html').resolve()}")
    yield opened
    opened.close()
    assert errors == []


@pytest.mark.parametrize("page", [1400, 400], indirect=True)
def test_it_opens_without_errors_and_draws_every_plot(page: Any) -> None:
    titles = page.locator("h2").all_inner_texts()
    for wanted in (
        "Is the lead of the best luck?",
        "What mattered?",
        "What to do next?",
        "Optimization history",
        "Learning curves",
        "Parallel coordinates",
        "Slices",
        "Worst mistakes of the best",
    ):
        assert wanted in titles
    drawn = page.locator(".plot")
    for index in range(drawn.count()):
        drawn.nth(index).scroll_into_view_if_needed()
    page.wait_for_function(
        "document.querySelectorAll('.plot svg.main-svg').length >= document.querySelectorAll('.plot').length"
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_table_sorts_and_filters(page: Any) -> None:
    def column(name: str) -> list[str]:
        index = page.locator("#runs th").all_inner_texts().index(name)
        return [row.locator("td").nth(index).inner_text() for row in page.locator("#runs tbody tr:visible").all()]

    head = page.locator("#runs th button")
    assert column("rank") == ["1", "2", "3", "4"]
    head.filter(has_text="val_loss").click()
    head.filter(has_text="val_loss").click()
    assert column("rank") == ["4", "3", "2", "1"]
    head.filter(has_text="optimizer").click()
    assert column("optimizer") == ["adam", "adam", "sgd", "sgd"]
    page.locator("#filter").fill("sgd finished")
    assert column("optimizer") == ["sgd", "sgd"]
    link = page.locator("#runs tbody tr:visible a").first.get_attribute("href")
    assert (Path("multirun/first") / link / "metrics.json").is_file()


def test_names_of_folders_are_plain_links_and_plain_text(tool: Tool) -> None:
    hostile = ["javascript:alert(1)", "a#b?c%20d", "<script>alert(2)<script>", '" onclick="alert(3)']
    for number, name in enumerate(hostile):
        Path("multirun/first", str(number)).rename(name)
    tool("compare", *(f"./{name}" for name in hostile), "--report", "report.html")
    text = Path("report.html").read_text(encoding="utf-8")
    links = re.findall(r'<a href="([^"]*)">', text) + json.loads(TABLE.findall(text)[0])["links"]
    assert len(links) == 5  # the best, and one a row
    assert {unquote(link) for link in links} == set(hostile)
    assert not [link for link in links if set(link) & set(":#?<>")]
    assert "<script>alert" not in text and 'onclick="alert' not in text


def test_hostile_settings_and_names_do_nothing_in_the_browser(tool: Tool, browser: Any) -> None:
    sweep = Path("multirun/first").rename("multirun/<!--<script>\"'&#39;")
    hostile = ["</script><script>hit=1</script>", "<!--<script>", "<img src=x onerror=hit=1>", "javascript:hit=1"]
    for number, value in enumerate(hostile):
        config = sweep / str(number) / ".hydra" / "config.yaml"
        config.write_text(re.sub(r"^  filters: .*", f"  filters: {json.dumps(value)}", config.read_text(), flags=re.M))
    tool("compare", str(sweep), "--report", "report.html")
    page = browser.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"file://{Path('report.html').resolve()}")
    drawn = page.locator(".plot")
    for index in range(drawn.count()):
        drawn.nth(index).scroll_into_view_if_needed()
    page.wait_for_function(
        "document.querySelectorAll('.plot svg.main-svg').length >= document.querySelectorAll('.plot').length"
    )
    assert page.evaluate("typeof hit") == "undefined" and errors == []
    assert page.locator("#runs tbody tr").count() == 4 and hostile[0] in page.locator("#runs").inner_text()
    page.close()


def test_a_figure_that_fails_costs_that_figure_only(
    tool: Tool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Encountered zero total variance in all trees.")

    monkeypatch.setattr(plots, "_parallel_coordinates", fail)
    out = tool("compare", "multirun/first")
    assert "warning    a figure is missing: RuntimeError: Encountered zero total variance" in out
    assert "Slices" in Path("multirun/first/report.html").read_text(encoding="utf-8")


def test_the_report_is_made_without_the_database_and_without_its_password(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for url in ("postgresql://me:se@cret@127.0.0.1:1/x", "me:se@cret@nowhere", "mysql://me:cret@h/x"):
        monkeypatch.setenv("OPTUNA_STORAGE", url)
        out = tool("compare", "multirun/first")
        assert "the axes of the report are taken from the runs" in out
        assert "report     multirun/first/report.html" in out
        with pytest.raises(SystemExit):
            tool("compare", "--help")
        text = Path("multirun/first/report.html").read_text(encoding="utf-8")
        shown = (out, text, *capsys.readouterr())
        assert not [one for one in shown if "cret" in one.replace(get_plotlyjs(), "")], url


def test_a_label_that_the_models_contradict_is_shown_with_its_place(tool: Tool) -> None:
    report = Path("multirun/first/report.html")
    tool("compare", "multirun/first")
    assert "Suspicious labels" not in report.read_text()
    for file in Path("multirun/first").glob("*/validation.npz"):
        with np.load(file) as archive:
            arrays = dict(archive)
        seen = arrays["labels"].astype(int)
        seen[0] = (seen[0] + 1) % 10
        chances = np.full(arrays["log_probabilities"].shape, 0.001)
        chances[np.arange(len(seen)), seen] = 0.991
        doubtful = {"worst": np.zeros(1, np.int32), "pictures": np.zeros((1, 28, 28, 1), np.uint8)}
        np.savez(file, **arrays | doubtful | {"log_probabilities": np.log(chances)})
    tool("compare", "multirun/first")
    (section,) = re.findall(r"<h2>Suspicious labels.*?</section>", report.read_text(), re.S)
    place, label, seen_as = arrays["images"][0], arrays["labels"][0], (arrays["labels"][0] + 1) % 10
    assert re.search(rf"image {place:,}: {label}, rather {seen_as} \(99%, \d models?\)", section), section
    assert ">1 of the validation images" in section
