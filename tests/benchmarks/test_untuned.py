import sys
from dataclasses import replace

import untuned


def test_an_expert_is_trained_once_and_imitated(tmp_path, monkeypatch, capsys):
    task = untuned.TASKS["Pendulum"]
    short = replace(task, expert=replace(task.expert, total_timesteps=2048), steps=1024)
    monkeypatch.setitem(untuned.TASKS, "Pendulum", short)
    monkeypatch.setattr(untuned, "run_cells", lambda cells, run, path, jobs: [cell | run(cell) for cell in cells])
    command = ["untuned.py", "--tasks", "Pendulum", "--seeds", "0", "--experts-folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*command, "--experts"])
    untuned.main()
    assert capsys.readouterr().out.startswith("Pendulum: ")
    monkeypatch.setattr(sys, "argv", command)
    untuned.main()
    header, _, values = capsys.readouterr().out.splitlines()
    assert header.split()[-2:] == ["steps", "seconds"]
    assert values.split()[-2] == "1024"
