import pytest
import torch
from gymnasium import spaces

from rlgen.rewards.apprenticeship import FEM, GTAL
from rlgen.types import Transitions

BOX = spaces.Box(-1, 1, (2,))
ALGORITHMS = pytest.mark.parametrize("algorithm", [FEM, GTAL])


def transitions(*shape, obs=None, actions=None):
    zeros = torch.zeros(shape)
    obs = torch.randn(*shape, 3) if obs is None else obs
    actions = torch.rand(*shape, 2) * 2 - 1 if actions is None else actions
    return Transitions(obs, actions, obs, zeros, zeros.bool(), zeros.bool())


@ALGORITHMS
def test_a_rollout_of_the_expert_s_own_features_leaves_no_gap(algorithm):
    expert = transitions(1000, obs=torch.rand(1000, 3))
    model = algorithm(expert, BOX)
    metrics = model.update(expert.apply(lambda x: x.view(10, 100, *x.shape[1:])))
    assert float(metrics["feature_gap"]) < 1e-4


def test_fem_pays_along_the_gap_and_gtal_for_its_widest_feature():
    """The policy's second observation lies two deviations below the expert's, its first one above."""
    expert = transitions(20_000)
    rollout = transitions(100, 200)
    rollout.obs[..., 0] += 1
    rollout.obs[..., 1] -= 2
    fem, gtal = FEM(expert, BOX), GTAL(expert, BOX)
    fem.update(rollout)
    gtal.update(rollout)
    # Squares: mean (1 + 4) of x^2 against 1, in units of their deviation sqrt 2.
    exact = torch.tensor([-1.0, 2.0, 0.0, 0.0, 0.0, -1 / 2**0.5, -4 / 2**0.5, 0.0, 0.0, 0.0])
    torch.testing.assert_close(fem.weights, exact / exact.norm(), atol=0.03, rtol=0)
    assert fem.weights.norm() == pytest.approx(1.0)
    assert gtal.weights.tolist() == [0, 0, 0, 0, 0, 0, -1, 0, 0, 0]


@ALGORITHMS
def test_the_call_is_pure_and_blind_to_rewards_and_ends(algorithm):
    model, batch = algorithm(transitions(100), BOX), transitions(5, 4)
    model.update(transitions(5, 4))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rewards = model(batch)
    other = Transitions(
        batch.obs, batch.actions * 1, batch.obs + 1, batch.rewards + 7, ~batch.terminated, ~batch.truncated
    )
    assert torch.equal(model(other), rewards)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_discrete_actions_have_a_block_each():
    """An expert that takes action 1 always, against a policy that takes action 0: the pay is for action 1."""
    expert = transitions(500, actions=torch.ones(500, dtype=torch.int64))
    policy = transitions(10, 50, actions=torch.zeros(10, 50, dtype=torch.int64))
    for algorithm in (FEM, GTAL):
        model = algorithm(expert, spaces.Discrete(2))
        model.update(policy)
        assert model.weights.shape == (14,)
        assert model(expert[:20]).mean() > model(policy[0, :20]).mean()


def test_features_are_in_deviations_of_the_expert_s_of_a_hundredth_at_least():
    deviations = torch.tensor([0.1, 1.0, 0.001])
    expert = transitions(20_000, obs=torch.randn(20_000, 3) * deviations)
    rollout = transitions(100, 200, obs=torch.randn(100, 200, 3) * deviations + torch.tensor([0.2, 1.0, 0.001]))
    fem = FEM(expert, BOX)
    fem.update(rollout)
    torch.testing.assert_close(fem.weights[:3] / fem.weights[1], torch.tensor([2.0, 1.0, 0.1]), atol=0.1, rtol=0.05)


def test_a_discrete_action_s_block_is_the_observation_its_square_and_one():
    expert = transitions(500, actions=torch.arange(500) % 2)
    taken = expert.actions.unsqueeze(-1)
    block = torch.cat((expert.obs, expert.obs.square(), torch.ones(500, 1)), -1)
    exact = torch.cat((block * (1 - taken), block * taken), -1).mean(0)
    torch.testing.assert_close(FEM(expert, spaces.Discrete(2)).normalizer.mean.float(), exact)
