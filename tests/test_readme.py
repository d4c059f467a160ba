"""The README's Python blocks run as they stand, one after the other."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_python_block_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    # One namespace, as of someone who pastes them into one session.
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert "pairs of 4 HalfCheetah-v4 trajectories" in capsys.readouterr().out
