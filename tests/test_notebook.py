"""docs/notebook.ipynb runs from its first cell to its last, with two steps in place of a hundred."""
# Takes at most 8 CPU seconds.

import ast
import json
import re

import pytest

from official import HERE

NOTEBOOK = HERE.parent / "docs" / "notebook.ipynb"


def code_cells():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_cells_run_in_order(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs pip install matplotlib (the extra 'report')")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    first, *rest = code_cells()
    first, found = re.subn(r"^STEPS = \d+", "STEPS = 2", first, flags=re.MULTILINE)
    assert found == 1
    names, shown = {}, []
    for number, text in enumerate([first, *rest]):
        *body, last = ast.parse(text, f"cell {number}").body
        if isinstance(last, ast.Expr):  # what Jupyter shows below the cell
            exec(compile(ast.Module(body, []), f"cell {number}", "exec"), names)
            shown.append(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names))
        else:
            exec(compile(text, f"cell {number}", "exec"), names)
    assert len(names["distances"]) == 2
    sizes = [value.size for value in shown if hasattr(value, "size")]
    strip = (5 * 128 + 4 * 8, 128)
    assert sizes[0] == (128, 128) and sizes[-2:] == [strip, strip]
    assert (tmp_path / "out" / "cat" / "projected_w.npz").is_file()


def test_it_is_small_has_outputs_and_says_how_to_install():
    text = NOTEBOOK.read_text()
    cells = json.loads(text)["cells"]
    assert len(text) < 400_000
    assert "# %pip install" in code_cells()[0]
    kinds = {kind for cell in cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert "image/png" in kinds
    assert not [output for cell in cells for output in cell.get("outputs", []) if output["output_type"] == "error"]
