from pathlib import Path

import pytest
from cells import cell_key, read_rows, run_cells


def square(cell):
    """Fails while the file that a cell names is there."""
    if Path(cell["trap"]).is_file():
        raise ValueError("trapped")
    return {"square": cell["x"] ** 2}


def test_a_failed_cell_leaves_the_others_and_is_tried_again(tmp_path, capsys):
    trap, path = tmp_path / "trap", tmp_path / "rows.csv"
    trap.touch()
    cells = [{"x": 2, "trap": ""}, {"x": 3, "trap": str(trap)}]
    with pytest.raises(RuntimeError, match="1 cells failed"):
        run_cells(cells, square, path, jobs=1)
    assert [row["square"] for row in read_rows(path)] == ["4"]
    assert "trapped" in capsys.readouterr().out

    trap.unlink()
    rows = run_cells(cells, square, path, jobs=1)
    assert "1 of 2 cells are in" in capsys.readouterr().out
    assert [row["square"] for row in rows] == ["4", "9"]


def test_a_changed_setting_is_another_cell():
    assert cell_key({"x": 2, "y": 1.0}) == cell_key({"y": 1.0, "x": 2})
    assert cell_key({"x": 2, "y": 1.0}) != cell_key({"x": 2, "y": 1.5})
