"""Every bonus with both learners."""

from dataclasses import replace

import pytest
import torch

from rlgen import exploration
from rlgen.envs import make_vec
from rlgen.envs.codes import Coded
from rlgen.train import Iteration


@pytest.mark.parametrize(("algo", "env_id"), [("trpo", "rlgen/SparseCartPoleSwingup-v0"), ("ppo", "CartPole-v1")])
@pytest.mark.parametrize("name", exploration.BONUSES)
def test_every_bonus_trains(algo, env_id, name):
    settings = exploration.settings(algo, env_id, name)
    learner, bonus = settings.learner, settings.bonus
    envs = make_vec(Coded(env_id, settings.codes) if settings.codes else env_id, 4, seed=0)
    bonus = replace(bonus, eta=0.5, n_updates=3, pool_size=200)
    learner = replace(learner, n_envs=4, n_steps=32, total_timesteps=384)
    training = learner.training(
        envs, lambda envs, policy: exploration.reward_model(envs, "cpu", exploration.BONUSES[name], bonus)
    )
    seen = list(training)
    metrics = seen[-1].metrics
    if name == "none":
        assert metrics["reward"] == pytest.approx(metrics["env_reward"])
    else:
        assert metrics["bonus_reward"] != 0
    if name not in ("none", "noise"):  # noise is drawn afresh when it is reported
        assert metrics["reward"] == pytest.approx(metrics["env_reward"] + metrics["bonus_reward"], rel=1e-4)


def test_milestones_keep_the_first_of_each():
    def iteration(number, best, returns):
        return Iteration(number, 100 * number, 1.5 * number, returns, {"env_reward_max": best}, {}, None)

    milestones = exploration.Milestones("rlgen/SparseHalfCheetah-v0")
    for number, (best, returns) in enumerate([(0, []), (1, [0.0, 9.0]), (1, [100.0, 150.0]), (1, [300.0])], 1):
        milestones(iteration(number, best, returns))
    assert milestones.facts == {
        "first_reward_steps": 200,
        "first_reward_seconds": 3.0,
        "half_return_steps": 300,
        "half_return_seconds": 4.5,
    }
    unknown = exploration.Milestones("MountainCar-v0")  # its threshold is negative
    unknown(iteration(1, -1, [0.0]))
    assert set(unknown.facts.values()) == {None}


def test_the_reference_is_the_authors_setting():
    envs = make_vec("rlgen/SparseMountainCar-v0", 2)
    config = exploration.settings("trpo", "rlgen/SparseMountainCar-v0", "vime-reference").bonus
    scaled = exploration.vime_reference(envs, config)
    model, network = scaled.bonus, scaled.bonus.network
    assert not scaled.bounded
    assert (model.config.n_updates, model.config.batch_size, model.config.learning_rate) == (500, 10, 1e-4)
    assert model.config.n_data == 50  # the authors' KL / 5 beside the sum over a batch of 10
    assert network.n_samples == 10
    assert network.shared_noise
    assert not network.analytic_output
    torch.testing.assert_close(network.likelihood_variance, torch.full((2,), 25.0))
    torch.testing.assert_close(network.layers[0].std, torch.full((32, 4), 0.5))
    assert float(network.layers[0].mean.std().detach()) == pytest.approx(1.0, abs=0.2)
    assert not model.coder.predict_change
