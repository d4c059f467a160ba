"""What settings are when nobody tells: the field's where they are told to be, and nothing beside the plain losses."""

import dataclasses
import inspect
import math
import time
import tomllib
from dataclasses import dataclass, field

import pytest
import sb3_contrib
import stable_baselines3
import torch

import rlgen
from rlgen import imitation, load_demonstrations, presets, threads
from rlgen.cloning import CloningSettings
from rlgen.envs import make_vec
from rlgen.errors import CheckpointError, UsageError
from rlgen.exploration import BonusConfig
from rlgen.imitation import Imitation
from rlgen.nn.policy import Policy
from rlgen.optim.behaviour_cloning import BehaviourCloningConfig
from rlgen.optim.ppo import PPOConfig
from rlgen.optim.trpo import TRPOConfig
from rlgen.presets import Learner
from rlgen.rewards.environment import EnvironmentReward
from rlgen.rewards.gail import GAILConfig
from rlgen.rewards.pool_bonus import PoolConfig
from rlgen.rewards.vime import VIMEConfig
from rlgen.settings import ADDED, from_json, override, without_added


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
        "learning_rate": 3e-3,
        "n_updates": 5,
        "batch_size": 1024,
        "gradient_penalty_coef": 0.1,
        "gradient_penalty_target": 0.0,
        "entropy_coef": 0.0,
        "expert_label": 1.0,
        "input_noise": 0.0,
        "historical_averaging": 0.0,
        "follow_policy": False,
    }


@pytest.mark.parametrize(
    "settings",
    [BehaviourCloningConfig, GAILConfig, Imitation, Learner, PoolConfig, PPOConfig, TRPOConfig, VIMEConfig],
)
def test_settings_stay_what_a_run_recorded(settings):
    assert settings.__dataclass_params__.frozen


WRONG = [
    (PPOConfig, {"clip_range": 0.0}, r"clip_range must be above 0; got 0.0"),
    (PPOConfig, {"learning_rate": -1e-3}, "learning_rate must be at least 0; got -0.001"),
    (PPOConfig, {"target_kl": math.inf}, "target_kl must be above 0; got inf"),
    (PPOConfig, {"batch_size": 2.5}, "batch_size must be a whole number; got 2.5"),
    (TRPOConfig, {"cg_damping": math.nan}, "cg_damping must be at least 0; got nan"),
    (TRPOConfig, {"line_search_shrinking_factor": 1.0}, r"line_search_shrinking_factor must be in \(0, 1\); got 1.0"),
    (BehaviourCloningConfig, {"validation_share": 1.0}, r"validation_share must be in \[0, 1\); got 1.0"),
    (GAILConfig, {"expert_label": 0.0}, r"expert_label must be in \(0, 1\]; got 0.0"),
    (GAILConfig, {"historical_averaging": -0.1}, "historical_averaging must be at least 0; got -0.1"),
    (GAILConfig, {"batch_size": 1}, "batch_size must be at least 2; got 1"),
    (GAILConfig, {"gradient_penalty_coef": "1"}, "gradient_penalty_coef must be a number; got '1'"),
    (VIMEConfig, {"n_data": 0.0}, "n_data must be above 0; got 0.0"),
    (BonusConfig, {"eta": -math.inf}, "eta must be a finite number; got -inf"),
    (BonusConfig, {"net_arch": (32, 0)}, "net_arch must be at least 1; got 0"),
]


@pytest.mark.parametrize(("settings", "changes", "message"), WRONG)
def test_a_number_outside_its_range_is_refused_where_the_settings_are_made(settings, changes, message):
    with pytest.raises(UsageError, match=message):
        settings(**changes)
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(settings(), **changes)


def test_settings_inside_settings_are_checked_too():
    preset = imitation.settings()
    with pytest.raises(UsageError, match=r"dropout must be in \[0, 1\); got 1"):
        dataclasses.replace(preset, dropout=1)
    with pytest.raises(UsageError, match=r"gamma must be in \[0, 1\]; got nan"):
        dataclasses.replace(preset.learner, gamma=math.nan)


def test_settings_that_do_not_go_together_are_refused():
    preset, paper = imitation.settings(), imitation.settings("paper")
    with pytest.raises(UsageError, match="reward must be one of softplus, log-d, logit, feature-matching; got log_d"):
        dataclasses.replace(preset, reward="log_d")
    with pytest.raises(UsageError, match="absorbing_states needs a learner with centre_rewards"):
        dataclasses.replace(paper, absorbing_states=True)
    with pytest.raises(UsageError, match=r"gamma must be below 1 with centre_rewards \(centre_rewards=False takes 1\)"):
        dataclasses.replace(preset.learner, gamma=1.0)
    assert dataclasses.replace(paper.learner, gamma=1.0).gamma == 1


def test_a_batch_needs_rows():
    """The standard deviation of one advantage is NaN, and a Fisher matrix of no rows never moves a policy."""
    with pytest.raises(UsageError, match=r"n_envs \* n_steps must be at least 2 rows; got 1"):
        presets.PPO_LEARNER.override(n_envs=1, n_steps=1)
    assert presets.PPO_LEARNER.override(n_envs=1, n_steps=2).n_steps == 2
    few = dataclasses.replace(presets.TRPO_LEARNER, optimizer=TRPOConfig(sub_sampling_factor=4))
    with pytest.raises(UsageError, match="at least 8 rows with sub_sampling_factor 4; got 4"):
        few.override(n_envs=2, n_steps=2)


def test_a_seed_is_enough_and_the_callers_random_numbers_stay():
    learner = presets.PPO_LEARNER.override(4, 64, 512)
    found = []
    for caller in (1, 2):
        torch.manual_seed(caller)
        before = torch.get_rng_state()
        envs = make_vec("CartPole-v1", 4, seed=0)
        training = learner.training(envs, lambda envs, policy: EnvironmentReward(), seed=5)
        metrics = []
        for iteration in training:
            metrics.append(iteration.metrics)
            assert torch.equal(torch.get_rng_state(), before)
            torch.rand(3)  # the caller's own draws change nothing
            before = torch.get_rng_state()
        found.append(metrics)
    assert found[0] == found[1]
    training = learner.training(make_vec("CartPole-v1", 4, seed=0), lambda envs, policy: EnvironmentReward(), seed=6)
    assert next(iter(training)).metrics != found[0][0]


@pytest.mark.parametrize(("cost", "chosen"), [([1.0, 0.5, 0.4], 4), ([1.0, 0.5, 0.49], 2), ([1.0, 8.0, 20.0], 1)])
def test_more_threads_are_taken_only_where_they_are_faster(monkeypatch, cost, chosen):
    now, running = [0.0], [4]

    def clock():
        now[0] += cost[running[0].bit_length() - 1]
        return now[0]

    monkeypatch.setattr(threads, "available_processors", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: running.__setitem__(0, n))
    monkeypatch.setattr(time, "perf_counter", clock)
    assert threads.choose_threads() == chosen
    assert running == [4]  # torch's own setting is put back


@pytest.mark.parametrize(
    ("env_id", "seed", "n_terminated", "survives"),
    [("HalfCheetah-v4", 0, 0, True), ("Walker2d-v4", 3, 3, True), ("Acrobot-v1", 0, 4, False)],
)
def test_an_expert_survives_if_an_episode_of_its_reaches_the_time_limit(env_id, seed, n_terminated, survives):
    settings, envs = imitation.settings(), make_vec(env_id, 1)
    demonstrations = load_demonstrations("expert_data", env_id, 4, seed=seed)
    assert demonstrations.n_terminated == n_terminated
    policy = Policy(envs.single_observation_space, envs.single_action_space)
    expert = settings.expert(envs, policy, demonstrations)
    assert expert.survives == settings.endings(policy, expert).expert_survives == survives


@pytest.mark.parametrize("settings", [imitation.settings(), imitation.settings("default", "ppo"), CloningSettings()])
def test_settings_are_printed_a_line_each_as_toml(settings):
    text = str(settings)
    assert max(map(len, text.splitlines())) < 80
    assert "batch_size = " in text
    assert override(settings, tomllib.loads(text)) == settings


def test_what_came_later_has_its_default_where_files_lack_it():
    """Agents that were saved, and rows that were measured, before a setting existed mean its default."""

    @dataclass(frozen=True)
    class Part:
        size: int
        later: float = field(default=0.5, kw_only=True, metadata=ADDED)

    @dataclass(frozen=True)
    class Whole:
        part: Part
        usual: int = 3
        newer: Part = field(default=Part(1), kw_only=True, metadata=ADDED)

    Whole.__annotations__ = {"part": Part, "usual": int, "newer": Part}
    Part.__annotations__ = {"size": int, "later": float}
    assert from_json(Whole, {"part": {"size": 2}, "usual": 4}, "x") == Whole(Part(2), 4)
    for lacking in ({"part": {"size": 2}}, {"part": {}, "usual": 4}):
        with pytest.raises(CheckpointError, match="exactly the fields"):
            from_json(Whole, lacking, "x")
    with pytest.raises(CheckpointError, match="exactly the fields"):
        from_json(Whole, {"part": {"size": 2}, "usual": 4, "unknown": 1}, "x")
    assert without_added(Whole(Part(2), 4)) == {"part": {"size": 2}, "usual": 4}
    changed = Whole(Part(2, later=0.1), 4, newer=Part(7))
    assert without_added(changed) == {"part": {"size": 2, "later": 0.1}, "usual": 4, "newer": {"size": 7}}


def test_configs_leave_out_what_came_later_and_is_as_usual():
    """So runs of before go on, and are of one setting with runs of today."""
    told = {"n_envs": 4, "n_steps": 32, "n_threads": 1, "device": "cpu"}
    usual, other = (
        rlgen.GAIL("Hopper-v4", "expert_data", **told, **more)._config()
        for more in ({}, {"start_share": 0.5, "historical_averaging": 0.1, "information_limit": 0.5})
    )
    assert not {"backend", "start_share"} & usual["agent"]["arguments"].keys()
    assert "information_limit" not in usual["settings"]
    assert "historical_averaging" not in usual["settings"]["gail"]
    assert other["agent"]["arguments"] == usual["agent"]["arguments"] | {"start_share": 0.5}
    assert other["settings"]["information_limit"] == 0.5
    assert other["settings"]["gail"]["historical_averaging"] == 0.1
