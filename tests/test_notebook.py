"""Progress in a notebook, by a display that notes what it is shown."""

import base64
import re
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

import rlgen
from rlgen.run_log import Display


@pytest.fixture
def shown(monkeypatch):
    """What is displayed: a list of each output's successive contents."""
    outputs = []

    def display(content, display_id):
        assert display_id is True
        outputs.append([content])
        return SimpleNamespace(update=outputs[-1].append)

    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    ipython.version_info = (9, 0)  # which matplotlib reads
    module.display, module.HTML = display, str
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return outputs


def row(i, episodes=1):
    return {"env_steps": 100 * i, "wall_seconds": i / 100, "episodes": episodes, "return_mean": 7.0 * i, "kl": 0.01}


def cells(content):
    return [re.findall(r"<t[dh]>(.*?)</t[dh]>", line) for line in re.findall(r"<tr>(.*?)</tr>", content)]


def test_one_output_has_the_lines_and_the_curve(shown, capsys):
    with Display(4000, {"kl": "kl", "absent": "absent"}) as display:
        for i in range(1, 41):
            display(row(i))
    (contents,) = shown
    assert len(contents) == 2  # the first at once, the last at the end, and none within two seconds
    assert cells(contents[0]) == [["steps", "steps/s", "return", "kl", "left"], ["100", "10,000", "7", "0.01", "0:00"]]
    lines = cells(contents[1])
    assert [line[0] for line in lines[1:]] == ["100", *(f"{100 * i:,}" for i in range(3, 40, 2)), "4,000"]
    picture = re.search(r"base64,([^\"]+)", contents[1]).group(1)
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert capsys.readouterr().out == ""


def test_it_is_updated_every_two_seconds(shown, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("rlgen.run_log.time.monotonic", lambda: now[0])
    with Display(4000, {}) as display:
        for i in range(1, 41):
            now[0] += 0.5
            display(row(i))
    assert [cells(content)[-1][0] for content in shown[0]] == ["100", "600", "1,100", "1,600", "2,100", "2,600",
                                                                "3,100", "3,600", "4,000"]  # fmt: skip


def test_no_episode_and_no_iteration_are_no_error(shown):
    with Display(4000, {}):
        pass
    assert shown == []
    with Display(4000, {}) as display:
        display(row(1, episodes=0) | {"return_mean": float("nan")})
    assert "img" not in shown[0][-1]
    assert cells(shown[0][-1])[1][2] == "nan"


def test_training_in_a_notebook_prints_no_lines(shown, capsys):
    small = {"n_envs": 2, "n_steps": 16, "n_threads": 1, "device": "cpu"}
    rlgen.PPO("CartPole-v1", **small).learn(320)
    assert cells(shown[0][-1])[-1][0] == "320"
    rlgen.PPO("CartPole-v1", **small).learn(64, progress=False)
    assert len(shown) == 1
    assert capsys.readouterr().out == ""


def test_in_a_shell_of_ipython_lines_are_printed(shown, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: SimpleNamespace())
    with Display(100, {}) as display:
        display(row(1))
    assert shown == []
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_ipython_is_not_imported():
    code = "import sys; from rlgen.run_log import Display; Display(1, {}); print('IPython' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
