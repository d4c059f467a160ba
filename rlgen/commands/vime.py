"""Explore where reward is silent: a Bayesian network of the dynamics pays the agent for what it learns.

python scripts/vime.py --sparse
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from rlgen.command import PRESET, RunArguments, RunFlags, default, environment_id
from rlgen.errors import UsageError


@dataclass(frozen=True)
class Arguments:
    """Train with the task's reward and an exploration bonus. The default is VIME with TRPO on sparse MountainCar."""

    env: Annotated[str | None, default("rlgen/SparseMountainCar-v0")] = None
    """Gymnasium id with its version. module:Id first imports the module that registers it, as in
    gymnasium_robotics:PointMaze_UMaze-v3."""
    sparse: bool = False
    """Train on the sparse HalfCheetah, which rewards only beyond five metres: --env rlgen/SparseHalfCheetah-v0."""
    bonus: Literal["vime", "vime-reference", "l2", "rnd", "disagreement", "noise", "none"] = "vime"
    """Exploration bonus added to the task's reward: `vime`, `vime-reference` (with the settings of the authors' code),
    `l2` (prediction error of the dynamics), `rnd` (Random Network Distillation), `disagreement` (of an ensemble),
    `noise` (Gaussian) or `none`."""
    algo: Literal["trpo", "ppo"] = "trpo"
    """Policy optimizer."""
    eta: Annotated[float | None, PRESET] = None
    """Weight of the bonus, in units of its usual size."""
    n_updates: Annotated[int | None, PRESET] = None
    """Adam steps of the bonus's network in each iteration."""
    target_kl: Annotated[float | None, PRESET] = None
    """Bound on the KL divergence of a TRPO step, in nats."""
    gamma: Annotated[float | None, PRESET] = None
    """Discount factor. 1 / (1 - gamma) steps should span the way to the reward."""
    gae_lambda: Annotated[float | None, PRESET] = None
    """Lambda of generalised advantage estimation."""
    run: RunFlags = field(default_factory=RunArguments)


def main(arguments: Arguments) -> int:
    """Compose, run; the exit code."""
    # After parsing, so that --help doesn't wait for torch.
    from rlgen import exploration
    from rlgen.experiment import run
    from rlgen.optim.trpo import TRPOConfig

    if arguments.sparse and arguments.env is not None:
        raise UsageError(f"--sparse chooses the environment itself; leave out it or --env {arguments.env}")
    told_env = "rlgen/SparseHalfCheetah-v0" if arguments.sparse else arguments.env
    env_id = environment_id(told_env or "rlgen/SparseMountainCar-v0")
    learner, bonus = exploration.settings(arguments.algo, env_id, arguments.bonus)
    file = arguments.run.settings_file(env_id)
    parts: dict[str, Any] = {"learner": learner, "bonus": bonus}
    settings = file.apply(parts, env_id, arguments.algo)
    learner, bonus = arguments.run.override(settings["learner"]), settings["bonus"]
    told = {name: value for name, value in vars(arguments).items() if value is not None}
    for flag, useless in (("eta", ("none",)), ("n_updates", ("none", "noise"))):
        if flag in told and arguments.bonus in useless:
            raise UsageError(f"--{flag.replace('_', '-')} has no effect with --bonus {arguments.bonus}")
    bonus = replace(bonus, **{name: told[name] for name in ("eta", "n_updates") if name in told})
    learner = replace(learner, **{name: told[name] for name in ("gamma", "gae_lambda") if name in told})
    if "target_kl" in told:
        if not isinstance(learner.optimizer, TRPOConfig):
            raise UsageError("--target-kl is TRPO's; leave it out with --algo ppo")
        learner = replace(learner, optimizer=replace(learner.optimizer, target_kl=told["target_kl"]))

    milestones = exploration.Milestones(env_id)
    result = run(
        arguments.run,
        env_id=env_id,
        learner=learner,
        make_reward=lambda envs, policy: exploration.reward_model(
            envs, policy.normalizer.mean.device, exploration.BONUSES[arguments.bonus], bonus
        ),
        algorithm=arguments.algo,
        reward=arguments.bonus,
        name=f"{arguments.bonus}-{arguments.algo}",
        config={"arguments": arguments, "settings": {"learner": learner, "bonus": bonus}},
        columns={"bonus_reward": "bonus", "bonus_error": "error", "bonus_coverage": "coverage", "kl": "kl"},
        facts=milestones.facts,
        on_iteration=milestones,
    )
    steps = milestones.facts["first_reward_steps"]
    print("no positive reward was met in training" if steps is None else f"first reward within {steps:,} steps")
    return result.exit_code
