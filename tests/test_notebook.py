"""docs/notebook.ipynb runs in a kernel from its first to its last cell, with a few digits and small models."""

import copy
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from sweeper_digits import program
from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
COMMON = 'common = ["epochs=3", "figures=false"]'


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: list[str]) -> list[NotebookNode]:
    """The cells of the notebook after it ran, and the one with the model once more, changed."""
    monkeypatch.setenv("PYTHONPATH", program.importable(dict(os.environ))["PYTHONPATH"])
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert COMMON in first.source
    short = [override for override in tiny if not override.startswith("model")]
    first.source = first.source.replace(COMMON, f"common = {short}")
    at = next(index for index, cell in enumerate(notebook.cells) if cell.source.startswith("import keras"))
    again = copy.deepcopy(notebook.cells[at])
    again.source = "# A line more.\n" + again.source.replace('"relu"', '"tanh"')
    notebook.cells.insert(at + 1, again)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cell: NotebookNode) -> str:
    """What a cell printed and returned."""
    outputs = (one.get("text", one.get("data", {}).get("text/plain", "")) for one in cell.outputs)
    return "".join(outputs)


@pytest.mark.slow
def test_the_notebook_runs(cells: list[NotebookNode], tmp_path: Path) -> None:
    _, run, plot, wrong, own, changed, _, found, table, best = cells
    assert "\nepoch   1/2  loss " in text_of(run) and "Run('outputs/" in text_of(run)
    assert any("image/png" in one.get("data", {}) for one in plot.outputs)
    (error,) = wrong.outputs
    assert error.ename == "UserError" and "\n".join(error.traceback).startswith("error: model=smal: no such option")
    assert "Run('outputs/" in text_of(own)
    assert text_of(own).splitlines()[-1].split(": ")[1] != text_of(changed).splitlines()[-1].split(": ")[1]
    assert "\n#1    val_loss " in text_of(found) and "multirun/widths" in text_of(found)
    assert "model.width" in text_of(table) and "Total params" in text_of(best)
    assert (tmp_path / "multirun" / "widths" / "trials.csv").exists()


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert NOTEBOOK.stat().st_size < 30_000
