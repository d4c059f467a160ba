"""What settings are when nobody tells: the field's where they are told to be, and nothing beside the plain losses."""

import dataclasses
import inspect

import pytest
import sb3_contrib
import stable_baselines3

from rlgen.imitation import Imitation
from rlgen.optim.behaviour_cloning import BehaviourCloningConfig
from rlgen.optim.ppo import PPOConfig
from rlgen.optim.trpo import TRPOConfig
from rlgen.presets import Learner
from rlgen.rewards.gail import GAILConfig
from rlgen.rewards.pool_bonus import PoolConfig
from rlgen.rewards.vime import VIMEConfig


@pytest.mark.parametrize(
    ("config", "theirs", "own"),
    [
        (
            TRPOConfig(),
            sb3_contrib.TRPO,
            {"cg_max_steps": 10, "batch_size": 1024, "final_share": 1.0},
        ),
        (
            PPOConfig(),
            stable_baselines3.PPO,
            {"learning_rate": 7e-4, "n_epochs": 5, "batch_size": 1024, "least_share": 0.02},
        ),
    ],
)
def test_defaults_are_stable_baselines_but_for(config, theirs, own):
    parameters = inspect.signature(theirs).parameters
    for name, value in dataclasses.asdict(config).items():
        assert value == (own[name] if name in own else parameters[name].default), name


def test_behaviour_cloning_is_the_paper_s():
    config = BehaviourCloningConfig()
    assert (config.learning_rate, config.batch_size, config.n_steps) == (1e-3, 128, 20_000)
    assert (config.validation_share, config.weight_decay) == (0.3, 0.0)


def test_a_bonus_learns_by_ten_large_steps():
    """Fewer and larger steps cost accuracy, as does a smaller rate (benchmarks/NOTES.md)."""
    for config in (PoolConfig(), VIMEConfig()):
        assert (config.learning_rate, config.n_updates, config.batch_size) == (1e-2, 10, 500)


def test_a_discriminator_learns_by_cross_entropy_and_penalty_alone():
    assert dataclasses.asdict(GAILConfig()) == {
        "learning_rate": 3e-4,
        "n_updates": 5,
        "batch_size": 1024,
        "gradient_penalty_coef": 1.0,
        "gradient_penalty_target": 0.0,
        "entropy_coef": 0.0,
        "expert_label": 1.0,
        "input_noise": 0.0,
        "reward_offset": 0.0,
        "follow_policy": False,
    }


@pytest.mark.parametrize(
    "settings",
    [BehaviourCloningConfig, GAILConfig, Imitation, Learner, PoolConfig, PPOConfig, TRPOConfig, VIMEConfig],
)
def test_settings_stay_what_a_run_recorded(settings):
    assert settings.__dataclass_params__.frozen
