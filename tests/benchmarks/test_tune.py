"""A search over a command's flags, stopped and gone on with."""

import sys
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import tune
from processes import RLGEN, anew, forked
from tune import distribution

ROOT = Path(__file__).parents[2]
COMMAND = [
    "gail", "--env", "CartPole-v1", "--expert", str(ROOT / "expert_data"), "--n-trajectories", "1", "--subsample", "10",
    "--n-envs", "4", "--n-steps", "16", "--total-timesteps", "128", "--eval-episodes", "2",
]  # fmt: skip


def words(output, *more, trials):
    search = ["--search", "gradient-penalty-coef=0.1:10:log", "reward=softplus,logit", "--trials", str(trials)]
    return [tune.__file__, *search, "--jobs", "1", "--seeds", "100", "--output", str(output), *more, "--", *COMMAND]


@pytest.fixture
def search(monkeypatch):
    """Search in this process, and each trial in a fork."""

    def run(command, **options):
        assert command[1:3] == ["-m", "rlgen"]
        return forked(RLGEN, *command[3:])

    def search(*arguments, **options):
        monkeypatch.setattr(sys, "argv", words(*arguments, **options))
        tune.main()

    monkeypatch.setattr(tune, "outcomes", lambda cells, run, jobs, ray: ((cell, run(cell)) for cell in cells))
    monkeypatch.setattr(tune, "subprocess", SimpleNamespace(run=run))
    return search


def test_a_search_goes_on_where_it_stopped(tmp_path, search, capsys):
    path = tmp_path / "tune.db"
    done = anew(*words(path, trials=1), timeout=300)
    assert done.returncode == 0, done.stderr
    storage = f"sqlite:///{path}"
    (summary,) = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    first = {trial.number: (trial.value, trial.params) for trial in study.trials}
    assert len(first) == 1
    study.ask()  # one under way when the search was stopped
    search(path, trials=3)
    assert "best so far" in capsys.readouterr().out
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    assert {n: (study.trials[n].value, study.trials[n].params) for n in first} == first
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert len({trial.params["gradient-penalty-coef"] for trial in study.trials if trial.params}) == 3
    # Another question is another study.
    search(path, "--metric", "return_mean", trials=1)
    assert len(optuna.get_all_study_summaries(storage)) == 2
    with pytest.raises(SystemExit, match="error: the summary has no number loss; it has env_id"):
        search(path, "--metric", "loss", trials=1)


def test_ranges_and_lists():
    kinds = optuna.distributions
    assert distribution("a=0.1:10:log") == ("a", kinds.FloatDistribution(0.1, 10, log=True))
    assert distribution("a=1:8") == ("a", kinds.IntDistribution(1, 8))
    assert distribution("a=x,y") == ("a", kinds.CategoricalDistribution(["x", "y"]))


@pytest.mark.parametrize("text", ["a", "a=1", "=1,2", "a=5:1", "a=x:y", "a=0:1:log"])
def test_what_is_neither_is_told(text, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tune.py", "--search", text, "--", "gail"])
    with pytest.raises(SystemExit) as end:
        tune.main()
    assert end.value.code == 2
    assert "say flag=0.1:10" in capsys.readouterr().err
