"""VIME and the bonuses it is compared with, on linear dynamics that a network can learn."""

import copy
import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlgen.data.replay import ReplayPool
from rlgen.errors import UsageError
from rlgen.nn.bayesian import BayesianNetwork
from rlgen.nn.dynamics import DynamicsCoder
from rlgen.nn.mlp import mlp
from rlgen.nn.random_features import RandomFeatures
from rlgen.rewards.combine import MedianScaled, WeightedSum
from rlgen.rewards.disagreement import Disagreement
from rlgen.rewards.environment import EnvironmentReward
from rlgen.rewards.noise import RewardNoise
from rlgen.rewards.prediction_error import PredictionError
from rlgen.rewards.vime import VIME, VIMEConfig
from rlgen.types import Transitions

OBS, BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Box(-1, 1, (2,), np.float32)


def rollout(n_steps=50, n_envs=4, far=0.0, actions=BOX, seed=0):
    """Steps of linear dynamics with a constant third dimension; `far` moves the states away from the usual ones."""
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(n_steps, n_envs, 3, generator=generator) + far
    obs[..., 2] = 7.0
    if isinstance(actions, spaces.Discrete):
        taken = torch.randint(int(actions.n), (n_steps, n_envs), generator=generator)
        force = taken.unsqueeze(-1) - 1.0
    else:
        taken = 2 * torch.rand(n_steps, n_envs, 2, generator=generator) - 1
        force = taken
    next_obs = obs.clone()
    next_obs[..., :2] += 0.1 * obs[..., :2].flip(-1) + 0.3 * force
    flags = torch.zeros(n_steps, n_envs, dtype=torch.bool)
    return Transitions(obs, taken, next_obs, torch.ones(n_steps, n_envs), flags, flags)


def vime(actions=BOX, **network):
    coder = DynamicsCoder(3, actions)
    return VIME(BayesianNetwork(coder.n_inputs, coder.n_targets, **network), coder, ReplayPool(5000, OBS, actions))


def l2(actions=BOX):
    coder = DynamicsCoder(3, actions)
    network = mlp(coder.n_inputs, (32,), coder.n_targets, output_gain=1.0)
    return PredictionError(network, coder, ReplayPool(5000, OBS, actions))


def rnd(actions=BOX):
    coder = RandomFeatures(3)
    network = mlp(coder.n_inputs, (64,), coder.n_targets, output_gain=1.0)
    return PredictionError(network, coder, ReplayPool(5000, OBS, actions))


def disagreement(actions=BOX):
    coder = DynamicsCoder(3, actions)
    members = [mlp(coder.n_inputs, (32,), coder.n_targets, output_gain=1.0) for _ in range(3)]
    return Disagreement(members, coder, ReplayPool(5000, OBS, actions))


BONUSES = [vime, l2, rnd, disagreement]


@pytest.mark.parametrize("make", BONUSES)
@pytest.mark.parametrize("actions", [BOX, spaces.Discrete(3)], ids=["box", "discrete"])
def test_learns_the_usual_and_pays_for_the_unusual(make, actions):
    torch.manual_seed(0)
    bonus = make(actions)
    errors = [bonus.update(rollout(actions=actions, seed=seed))["error"] for seed in range(15)]
    metrics = bonus.update(rollout(actions=actions, seed=15))
    assert metrics["error"] < 0.3 * errors[1]  # the first is in other units
    if "no_change_error" in metrics:
        assert metrics["error"] < 0.2 * metrics["no_change_error"]
    usual, unusual = bonus(rollout(actions=actions, seed=99)), bonus(rollout(actions=actions, far=6.0, seed=99))
    assert usual.shape == (50, 4)
    assert (usual >= 0).all()
    assert torch.isfinite(unusual).all()
    assert unusual.median() > 5 * usual.median()


@pytest.mark.parametrize("make", BONUSES)
def test_a_score_is_a_function_of_transitions_and_state(make):
    torch.manual_seed(0)
    bonus, other = make(), make()
    bonus.update(rollout())
    steps = rollout(seed=1)
    state = torch.get_rng_state()
    first = bonus(steps)
    assert torch.equal(torch.get_rng_state(), state)  # an extra call leaves the training that follows as it is
    assert torch.equal(bonus(copy.deepcopy(steps)), first)
    first.mul_(0)
    assert (bonus(steps) > 0).all()  # what a caller does to its copy is its own affair
    before = bonus(steps)
    bonus.update(rollout(seed=2))
    assert not torch.equal(bonus(steps), before)
    seen = other(steps)
    other.load_state_dict(bonus.state_dict())
    assert not torch.equal(other(steps), seen)
    assert torch.isfinite(other.update(rollout(seed=3))["error"])


@pytest.mark.parametrize("make", BONUSES)
def test_another_precision_is_refused_and_changes_nothing(make):
    bonus = MedianScaled(make())
    bonus.update(rollout())
    before = copy.deepcopy(bonus.state_dict())
    for change in (torch.nn.Module.double, torch.nn.Module.half, lambda x: x.to(torch.float64)):
        with pytest.raises(
            UsageError, match=r"networks are float32 here, and statistics float64; .* Use \.to\(device\)"
        ):
            change(bonus)
    for same in (bonus.float(), bonus.to("cpu")):
        for name, x in same.state_dict().items():
            if torch.is_tensor(x):
                torch.testing.assert_close(x, before[name], rtol=0, atol=0, equal_nan=True)  # of one dtype, too
    bonus.update(rollout(seed=1))


@pytest.mark.parametrize("make", BONUSES)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda bonus: pickle.loads(pickle.dumps(bonus))])
def test_a_copy_goes_on_learning_as_the_original_does(make, copied):
    bonus = make()
    bonus.update(rollout())
    other, steps = copied(bonus), rollout(seed=1)
    before = other(steps)
    assert torch.equal(bonus(steps), before)
    for model in (bonus, other):
        for seed in range(2):
            torch.manual_seed(seed)
            model.update(rollout(seed=seed))
    assert torch.equal(bonus(steps), other(steps))
    assert not torch.equal(other(steps), before)


@pytest.mark.parametrize("make", BONUSES)
def test_a_network_without_its_gradients_is_told(make):
    bonus = make()
    bonus.zero_grad(set_to_none=True)
    with pytest.raises(RuntimeError, match="load a copy's state_dict into a new one"):
        bonus.update(rollout())


@pytest.mark.parametrize("make", BONUSES)
def test_a_bonus_that_was_moved_goes_on_learning(make):
    torch.manual_seed(0)
    bonus = make()
    torch.manual_seed(0)
    moved = make()
    moved._apply(torch.clone)  # as a move to another device does
    for seed in range(3):
        for model in (bonus, moved):
            torch.manual_seed(seed)
            model.update(rollout(seed=seed))
        moved._apply(torch.clone)  # as a move to another device does
    for name, weight in bonus.state_dict().items():
        if isinstance(weight, torch.Tensor):
            torch.testing.assert_close(moved.state_dict()[name], weight)
    assert torch.equal(moved(rollout(seed=5)), bonus(rollout(seed=5)))


def test_actions_of_double_precision_are_taken():
    wide = spaces.Box(-1, 1, (2,), np.float64)
    bonus = vime(wide)
    bonus.update(rollout())
    assert torch.isfinite(bonus(rollout(seed=1))).all()


@pytest.mark.parametrize("make", [l2, rnd, disagreement])
def test_scores_and_gradients_of_errors_are_autograd_s(make):
    bonus, rows = make(), rollout().flatten()
    bonus.coder.update(rows)
    inputs, targets = bonus.coder.inputs(rows), bonus.coder.targets(rows)
    members = list(bonus.network) if make is disagreement else [bonus.network]
    error = bonus.add_gradient(inputs, targets)
    theirs = [
        (member(x) - y).square().mean()
        for member, x, y in zip(
            members, inputs.tensor_split(len(members)), targets.tensor_split(len(members)), strict=True
        )
    ]
    torch.testing.assert_close(error, sum(theirs) / len(members))
    for gradient, exact in zip(bonus.gradients, torch.autograd.grad(sum(theirs), bonus.learned), strict=True):
        torch.testing.assert_close(gradient, exact, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        predictions = torch.stack([member(inputs) for member in members])
    exact = predictions.var(0, correction=0) if make is disagreement else (predictions[0] - targets).square()
    torch.testing.assert_close(bonus.score(inputs, targets), exact.mean(-1))


@pytest.mark.parametrize("make", BONUSES)
def test_scoring_changes_nothing(make):
    bonus = make()
    bonus.update(rollout())
    before = copy.deepcopy(bonus.state_dict())
    bonus(rollout(seed=1))
    torch.testing.assert_close(bonus.state_dict(), before, rtol=0, atol=0)


def test_vime_is_calibrated_and_keeps_the_reference_likelihood():
    torch.manual_seed(0)
    bonus = vime()
    for seed in range(30):
        metrics = bonus.update(rollout(seed=seed))
    assert 0.8 < metrics["calibration_90"] <= 1.0
    assert metrics["likelihood_std"] < 0.3

    coder = DynamicsCoder(3, BOX, predict_change=False)
    network = BayesianNetwork(coder.n_inputs, 3, likelihood_std=5.0, learn_likelihood_std=False, analytic_output=False)
    reference = VIME(network, coder, ReplayPool(5000, OBS, BOX), VIMEConfig(n_data=50, n_updates=10, batch_size=10))
    assert reference.update(rollout())["likelihood_std"] == 5.0


@pytest.mark.parametrize(("n_data", "rows"), [(None, 200), (50, 50)])
def test_vime_weighs_the_prior_as_one_of_so_many_rows(n_data, rows):
    coder = DynamicsCoder(3, BOX)
    network = BayesianNetwork(coder.n_inputs, coder.n_targets)
    bonus = VIME(network, coder, ReplayPool(5000, OBS, BOX), VIMEConfig(n_data=n_data, learning_rate=0.0))
    bonus.update(rollout())  # 200 rows
    inputs, targets = coder.inputs(rollout().flatten()), coder.targets(rollout().flatten())
    found = []
    for add in (bonus.add_gradient, lambda x, y: network.add_loss_gradient(x, y, 1 / rows)):
        bonus.optimizer.zero_grad()
        torch.manual_seed(0)
        add(inputs, targets)
        found.append([p.grad.clone() for p in bonus.learned])
    torch.testing.assert_close(*found)


def test_executed_actions_beyond_the_bounds_are_seen_clipped():
    bonus = vime()
    bonus.update(rollout())
    inside = rollout(seed=1)
    inside = Transitions(**{**vars(inside), "actions": inside.actions.sign()})
    outside = Transitions(**{**vars(inside), "actions": 100 * inside.actions})
    torch.manual_seed(0)
    expected = bonus(inside)
    torch.manual_seed(0)
    torch.testing.assert_close(bonus(outside), expected)


class Ramp:
    """A bonus of 1, 2, ... times what it was updated."""

    def __init__(self):
        self.updates = 0

    def __call__(self, transitions):
        return self.updates * torch.tensor([[1.0, 2.0, 6.0]])

    def update(self, transitions):
        self.updates += 1
        return {}


def test_median_scaled_divides_by_the_mean_of_past_medians():
    steps = rollout(1, 3)
    for bounded in (False, True):
        scaled = MedianScaled(Ramp(), n_iterations=2, bounded=bounded)
        assert (scaled(steps) == 0).all()  # it knows nothing yet
        seen = []
        for _ in range(5):
            metrics = scaled.update(steps)
            seen.append(scaled(steps))
        # Medians 2, 4, 6 and 8 were noted at updates 2 to 5; the first score divides by its own.
        ratios = [torch.tensor([[1.0, 2.0, 6.0]]) * k for k in (1 / 2, 2 / 2, 3 / 3, 4 / 5, 5 / 7)]
        for found, ratio in zip(seen, ratios, strict=True):
            torch.testing.assert_close(found, ratio.log1p() if bounded else ratio)
        assert metrics["raw_median"] == 8.0
        # The last rollout was scored 4, 8 and 24 and divided by the mean of 4 and 6 before.
        largest = torch.tensor(24 / 5)
        torch.testing.assert_close(metrics["max"], largest.log1p() if bounded else largest)


def test_ten_medians_are_averaged_and_pay_is_bounded_unless_told():
    assert MedianScaled(Ramp()).medians.shape == (10,)
    assert MedianScaled(Ramp()).bounded


def test_weighted_sum_adds_and_names_its_terms():
    steps = rollout()
    total = WeightedSum({"env": (EnvironmentReward(), 1.0), "bonus": (MedianScaled(vime()), 0.5)})
    assert torch.equal(total(steps), steps.rewards)  # nothing is paid before the first update
    metrics = total.update(steps)
    assert metrics["env_reward"] == 1.0
    assert metrics["bonus_reward"] == 0.0
    assert "bonus_error" in metrics
    assert (total(steps) > steps.rewards).all()
    assert any(name.startswith("bonus.bonus.network") for name in total.state_dict())


def test_noise_is_standard_normal():
    torch.manual_seed(0)
    drawn = RewardNoise()(rollout(1000, 10))
    assert abs(float(drawn.mean())) < 0.05
    assert float(drawn.std()) == pytest.approx(1, abs=0.05)
