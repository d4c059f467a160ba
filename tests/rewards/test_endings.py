import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlgen.errors import UsageError
from rlgen.rewards.endings import TerminationReward
from rlgen.types import Transitions


def rollout(n_terminated, n_steps=100, n_truncated=0):
    ends = torch.zeros(n_steps, dtype=torch.bool)
    terminated, truncated = ends.clone(), ends.clone()
    terminated[:n_terminated], truncated[n_terminated : n_terminated + n_truncated] = True, True
    rows = torch.zeros(n_steps, 1)
    return Transitions(rows, rows, rows, rows[:, 0], terminated, truncated).apply(lambda x: x.unflatten(0, (-1, 10)))


def test_it_is_the_best_discriminator_s_with_absorbing_states():
    """DAC's pairs, weighed and normalised by enumeration; the absorbing state's logit is taken from all."""
    rng = np.random.default_rng(0)
    for gamma in (0.9, 0.99):
        pairs = [rng.dirichlet(np.ones(6)) for _ in range(2)]  # how often expert and policy visit each of six
        rates = rng.uniform(0.01, 0.2, 2)  # terminations a step
        mass = [np.append(visited, rate / (1 - gamma)) for visited, rate in zip(pairs, rates, strict=True)]
        expert, policy = (x / x.sum() for x in mass)
        logits = np.log(expert / policy)
        model = TerminationReward(rates[0], eps=1e-300)
        model.counts.copy_(torch.tensor([rates[1], 1.0]) * 1e12)
        found = np.log(pairs[0] / pairs[1]) + model(rollout(0)).item()
        np.testing.assert_allclose(found, logits[:-1] - logits[-1], rtol=1e-6)


def test_it_counts_terminations_and_no_time_limits():
    model = TerminationReward(0.05)
    expected = math.log((0.1 + 1e-4) / (0.05 + 1e-4))
    assert math.isclose(model(rollout(10, n_truncated=30)).item(), expected, rel_tol=1e-6)
    # The same again: a reward is no part of learning.
    assert math.isclose(model(rollout(10)).item(), expected, rel_tol=1e-6)
    model.update(rollout(10))
    assert math.isclose(model(rollout(0)).item(), math.log((9 / 190 + 1e-4) / (0.05 + 1e-4)), rel_tol=1e-6)
    other = TerminationReward(0.05)
    other.load_state_dict(model.state_dict())
    assert other(rollout(3)) == model(rollout(3))


def test_where_nothing_terminates_nothing_is_paid():
    assert TerminationReward(0.0)(rollout(0)) == 0
    truncated = replace(rollout(0), truncated=torch.ones(10, 10, dtype=torch.bool))
    assert TerminationReward(0.0)(truncated) == 0


@pytest.mark.parametrize("wrong", [{"expert_rate": -1.0}, {"expert_rate": math.nan}, {"decay": 2.0}, {"eps": 0.0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be"):
        TerminationReward(**{"expert_rate": 0.1} | wrong)
