"""TRPO and PPO on the task itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym

from rlgen import presets
from rlgen.agents.agent import AnyEnvironment, Told, folder_path, origin
from rlgen.agents.from_reward import Initial, RewardAgent, RewardArguments, learner_settings, start_of
from rlgen.agents.recovered import recovered_reward
from rlgen.envs.make import Backend, Vectorization
from rlgen.errors import CheckpointError
from rlgen.nn.policy import Policy
from rlgen.presets import LearnerSettings
from rlgen.rewards.environment import EnvironmentReward
from rlgen.spaces import describe_space
from rlgen.types import RewardModel


@dataclass(frozen=True)
class LearnerArguments(RewardArguments):
    """Those of `TRPO` and `PPO`.

    Attributes:
        recovered: the folder of the AIRL run whose reward is trained on; None: the environment's reward.
    """

    recovered: Path | None


class TRPO(RewardAgent):
    """Learn the task by TRPO, on the environment's own reward or on one that AIRL recovered.

        trpo = rlgen.TRPO("Hopper-v4")
        trpo.learn(1_000_000)

    Args:
        env: an id or what else `rlgen.make_vec` takes, or a vector environment with same-step autoreset.
        recovered: the folder of a run of AIRL, whose recovered reward is trained on (default: the environment's).
        settings: what replaces the defaults, see `Told`.
        init: the policy to start from, see `Initial` (default: a fresh one).
        critic_warmup: number of iterations in which the critic alone learns, with `init` (default: 5).
        seed: seed of environments, networks and actions.
        device: device of the networks: `cpu`, `cuda`, or `auto` (CUDA where there is one).
        n_threads: number of CPU threads for MuJoCo and torch (default: measured).
        env_kwargs: the environment's constructor arguments.
        vectorization: how environments of other packages are stepped, see `rlgen.make_vec`.
        backend: what steps MuJoCo tasks in training: `mujoco`, or `warp`, on the device (`pip install "rlgen[warp]"`).
            Evaluations are by MuJoCo itself.
        backend_kwargs: arguments of `warp`, see `rlgen.make_vec`.
        values: settings by name, such as `gamma=0.995, learning_rate=3e-4`; see `rlgen.settings.with_values`.

    Raises:
        CheckpointError: `recovered` holds no such reward, or one of other observations.
        UsageError: an argument that can't be used; a misspelt one is told with the nearest.
        gymnasium.error.NameNotFound: an unknown id, with near matches.
    """

    arguments: LearnerArguments
    columns: ClassVar[Mapping[str, str]] = {"explained_variance": "expl. var", "entropy": "entropy", "kl": "kl"}
    algo: ClassVar[str] = "trpo"
    _told: tuple[Told | None, Mapping[str, Any]] | None = None

    def __init__(
        self,
        env: AnyEnvironment,
        *,
        recovered: str | Path | None = None,
        settings: Told | None = None,
        init: Initial | None = None,
        critic_warmup: int | None = None,
        seed: int = 0,
        device: str = "auto",
        n_threads: int | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        vectorization: Vectorization = "sync",
        backend: Backend = "mujoco",
        backend_kwargs: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> None:
        folder = None if recovered is None else folder_path("recovered", recovered)
        arguments = LearnerArguments(
            algo=self.algo,
            seed=seed,
            device=str(device),
            n_threads=n_threads,
            vectorization=vectorization,
            backend=backend,
            backend_kwargs=None if backend_kwargs is None else dict(backend_kwargs),
            **start_of(init, critic_warmup, values),
            recovered=folder,
        )
        self._told = settings, values
        if folder is not None:
            recovered_reward(folder)  # told at once where it holds none
        super().__init__(env, self._for(env), arguments, env_kwargs, init)
        if folder is not None:
            self._origins = {**self._origins, "recovered": origin(folder)}

    def settings_for(self, total_timesteps: int | None) -> LearnerSettings:
        """The settings for so many steps; few have rollouts and minibatches of their own."""
        if self._told is None:
            return self.settings.for_steps(total_timesteps)
        return self._for(self.env, total_timesteps)

    def _for(self, env: AnyEnvironment, total_timesteps: int | None = None) -> LearnerSettings:
        preset = presets.EXPERT[self.algo]
        settings, values = self._told or (None, {})
        told = settings, env, self.algo, values, type(self)
        found = learner_settings(LearnerSettings(preset), *told).for_steps(total_timesteps)
        if found.learner.total_timesteps >= presets.SHORT or not isinstance(preset, presets.Learner):
            return found
        short = LearnerSettings(presets.shortened(preset))
        return learner_settings(short, *told).for_steps(total_timesteps)

    @property
    def reward(self) -> str:
        """The reward's name in a run's summary."""
        return "environment" if self.arguments.recovered is None else "recovered"

    def reward_model(self, envs: gym.vector.VectorEnv, policy: Policy) -> RewardModel:
        """The environment's reward, or the recovered one if its observations are those of `envs`."""
        folder = self.arguments.recovered
        if folder is None:
            return EnvironmentReward()
        recovered = recovered_reward(folder)
        if recovered.observation_space != (here := describe_space(envs.single_observation_space)):
            of = recovered.observation_space
            raise CheckpointError(f"{folder}: its reward is of observations {of}; those of {self.env_id} are {here}")
        return recovered.to(policy.normalizer.mean.device)


class PPO(TRPO):
    """Learn the task by PPO.

        ppo = rlgen.PPO("HalfCheetah-v4", learning_rate=7e-4)
        ppo.learn(1_000_000)

    Arguments and errors are those of `TRPO`.
    """

    algo = "ppo"


class SAC(TRPO):
    """Learn the task by SAC, from all steps so far.

        sac = rlgen.SAC("HalfCheetah-v4")
        sac.learn(300_000)

    Arguments and errors are those of `TRPO`, but for `init` and `critic_warmup`: it starts from a fresh policy.
    """

    algo = "sac"


class SVG(TRPO):
    """Learn the task by SVG(H): SAC, and a learned model that the policy is improved through.

        svg = rlgen.SVG("HalfCheetah-v4", horizon=3)
        svg.learn(100_000)

    Arguments and errors are those of `SAC`.
    """

    algo = "svg"
