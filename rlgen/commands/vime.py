"""Explore where rewards are sparse: VIME rewards what a model of the dynamics learns.

python scripts/vime.py --sparse
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from rlgen.command import PRESET, RunArguments, RunFlags, default, environment_id, told
from rlgen.errors import UsageError


@dataclass(frozen=True)
class Arguments:
    """Train with the task's reward and an exploration bonus. The default is VIME with TRPO on sparse MountainCar."""

    env: Annotated[str | None, default("rlgen/SparseMountainCar-v0")] = None
    """Gymnasium id with its version. module:Id first imports the module that registers it, as in
    gymnasium_robotics:PointMaze_UMaze-v3."""
    sparse: bool = False
    """Train on the sparse HalfCheetah, which rewards only beyond five metres: --env rlgen/SparseHalfCheetah-v0."""
    bonus: Literal["vime", "vime-reference", "l2", "rnd", "disagreement", "skills", "noise", "none"] = "vime"
    """Exploration bonus added to the task's reward: `vime`, `vime-reference` (with the settings of the authors' code),
    `l2` (prediction error of the dynamics), `rnd` (Random Network Distillation), `disagreement` (of an ensemble),
    `noise` (Gaussian) or `none`. `skills` takes the place of the task's reward: it learns as many behaviours as --codes
    that can be told apart by their states (DIAYN)."""
    codes: Annotated[int | None, default("8 of --bonus skills")] = None
    """Number of skills."""
    algo: Literal["trpo", "ppo", "svg", "sac"] = "trpo"
    """Learner: `trpo` or `ppo`, from fresh rollouts; `sac`, off-policy, with far fewer environment steps and more time
    for each; or `svg`, which is SAC with gradients through a learned model of the dynamics."""
    eta: Annotated[float | None, PRESET] = None
    """Weight of the bonus beside the task's reward, once the bonus is divided by its median."""
    n_updates: Annotated[int | None, PRESET] = None
    """Gradient steps of the bonus's network in each iteration."""
    run: RunFlags = field(default_factory=RunArguments)


def main(arguments: Arguments) -> int:
    """Compose, run; the exit code."""
    # After parsing, so that --help doesn't wait for torch.
    from rlgen.agents import VIME

    if arguments.sparse and arguments.env is not None:
        raise UsageError(f"--sparse chooses the environment itself; leave out it or --env {arguments.env}")
    chosen = "rlgen/SparseHalfCheetah-v0" if arguments.sparse else arguments.env
    env_id = environment_id(chosen or "rlgen/SparseMountainCar-v0")
    agent = VIME(
        env_id,
        bonus=arguments.bonus,
        algo=arguments.algo,
        **arguments.run.of_agent(env_id),
        **told({"eta": arguments.eta, "n_updates": arguments.n_updates, "codes": arguments.codes}),
    )
    result = agent.run(arguments.run, arguments)
    if agent.codes:
        print("rlgen evaluate RUN tells the return of each skill; --code K and --video show one")
        return result.exit_code
    steps = agent.facts["first_reward_steps"]
    print("no positive reward was met in training" if steps is None else f"first reward within {steps:,} steps")
    return result.exit_code
