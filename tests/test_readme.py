"""The Python blocks of README and guide run as they stand, one after the other."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "n_blocks", "printed"),
    [
        ("README.md", 5, ["pairs of 4 HalfCheetah-v4 trajectories"]),
        (
            "docs/guide.md",
            22,
            [
                "0.9 10",
                "pairs of 4 Reach-v0 trajectories",
                "pairs of 3 Reach-v0",
                "'termination_rate': 0.0",
                "3 Hopper-v4 36",
                "return 36",
            ],
        ),
    ],
)
def test_every_python_block_runs(monkeypatch, capsys, name, n_blocks, printed):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MINARI_DATASETS_PATH", "nowhere")  # the guide sets it
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == n_blocks
    # One namespace, as of someone who pastes them into one session.
    names: dict[str, object] = {"__name__": "guide"}
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    out = capsys.readouterr().out
    for line in printed:
        assert line in out
