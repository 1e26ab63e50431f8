"""The report for keyboards and screen readers: what axe-core finds, and what the Tab key reaches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Tool = Callable[..., str]


@pytest.mark.parametrize(("scheme", "width"), [("light", 400), ("dark", 1400)])
def test_axe_finds_nothing_serious(tool: Tool, browser: Any, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    tool("compare", "multirun/first")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(f"file://{Path('multirun/first/report.html').resolve()}")
    page.locator(".plot").first.scroll_into_view_if_needed()
    page.locator(".plot svg.main-svg").first.wait_for()
    found = axe.Axe().run(page).response["violations"]
    # Of text beside plots, axe cannot tell the contrast.
    page.evaluate("document.querySelectorAll('.plot').forEach(plot => plot.remove())")
    found += axe.Axe().run(page).response["violations"]
    page.close()
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []


def test_the_table_works_by_keyboard_and_says_what_it_shows(tool: Tool, browser: Any) -> None:
    tool("compare", "multirun/first")
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"file://{Path('multirun/first/report.html').resolve()}")
    page.locator("#filter").focus()
    page.keyboard.type("sgd")
    assert page.get_by_role("status").inner_text() == "2 of 2 runs, 4 in all"
    for _ in range(2):  # the table, which scrolls, and its first heading
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.get_by_role("columnheader", name="rank").get_attribute("aria-sort") == "ascending"
    page.close()
