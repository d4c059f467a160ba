"""A search over a command's flags, stopped and gone on with."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from tune import distribution

ROOT = Path(__file__).parents[2]
COMMAND = [
    "gail", "--env", "CartPole-v1", "--expert", str(ROOT / "expert_data"), "--n-trajectories", "1", "--subsample", "10",
    "--n-envs", "4", "--n-steps", "16", "--total-timesteps", "128", "--eval-episodes", "2",
]  # fmt: skip


def tune(output, *arguments, trials=2):
    search = ["--search", "gradient-penalty-coef=0.1:10:log", "reward=softplus,logit"]
    script = [sys.executable, str(ROOT / "benchmarks" / "tune.py"), *search, "--trials", str(trials), "--jobs", "1"]
    return subprocess.run(
        [*script, "--seeds", "100", "--output", str(output), *arguments, "--", *COMMAND],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_search_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "tune.db"
    done = tune(path)
    assert done.returncode == 0, done.stderr
    storage = f"sqlite:///{path}"
    (summary,) = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    first = {trial.number: (trial.value, trial.params) for trial in study.trials}
    assert len(first) == 2
    assert len({params["gradient-penalty-coef"] for _, params in first.values()}) == 2
    study.ask()  # one under way when the search was stopped
    done = tune(path, trials=3)
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    assert {n: (study.trials[n].value, study.trials[n].params) for n in first} == first
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]
    assert "best so far" in done.stdout
    # Another question is another study.
    assert tune(path, "--metric", "return_mean", trials=1).returncode == 0
    assert len(optuna.get_all_study_summaries(storage)) == 2
    wrong = tune(path, "--metric", "loss", trials=1)
    assert wrong.returncode == 1
    assert "the summary has no number loss; it has env_id" in wrong.stderr


def test_ranges_and_lists():
    kinds = optuna.distributions
    assert distribution("a=0.1:10:log") == ("a", kinds.FloatDistribution(0.1, 10, log=True))
    assert distribution("a=1:8") == ("a", kinds.IntDistribution(1, 8))
    assert distribution("a=x,y") == ("a", kinds.CategoricalDistribution(["x", "y"]))


@pytest.mark.parametrize("text", ["a", "a=1", "=1,2", "a=5:1", "a=x:y", "a=0:1:log"])
def test_what_is_neither_is_told(text, capsys):
    script = [sys.executable, str(ROOT / "benchmarks" / "tune.py"), "--search", text, "--", "gail"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "say flag=0.1:10" in done.stderr
