"""Exploration: VIME and the bonuses it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym

from rlgen import exploration
from rlgen.agents.agent import AnyEnvironment, Told, one_of, typed
from rlgen.agents.from_reward import Initial, RewardAgent, RewardArguments, learner_settings, start_of
from rlgen.envs.codes import Codes
from rlgen.envs.make import Backend, Vectorization, environment_name
from rlgen.errors import UsageError
from rlgen.nn.policy import Policy
from rlgen.train import Iteration
from rlgen.types import RewardModel


@dataclass(frozen=True)
class VIMEArguments(RewardArguments):
    """Those of `VIME`.

    Attributes:
        bonus: one of `rlgen.exploration.BONUSES`.
    """

    bonus: str

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("bonus", self.bonus, exploration.BONUSES)


class VIME(RewardAgent):
    """Explore where the task's reward is sparse, by a bonus beside it: VIME's, or another.

        vime = rlgen.VIME("rlgen/SparseMountainCar-v0")
        vime.learn(100_000)
        print(vime.facts["first_reward_steps"], vime.evaluate())

    Args:
        env: an id or what else `rlgen.make_vec` takes, or a vector environment with same-step autoreset.
        bonus: `vime`, `vime-reference` (with the settings of the authors' code), `l2`, `rnd`, `disagreement`, `skills`,
            `noise` or `none`. Skills are learned without the task's reward: the policy is given one of `codes=8` codes
            an episode, and earns by how surely its states tell which.
        algo: policy optimizer, `trpo` or `ppo`.
        settings: what replaces the defaults, see `Told`.
        init: the policy to start from, see `Initial` (default: a fresh one).
        critic_warmup: number of iterations in which the critic and the bonus alone learn, with `init` (default: 5).
        seed: seed of environments, networks and actions.
        device: device of the networks: `cpu`, `cuda`, or `auto` (CUDA where there is one).
        n_threads: number of CPU threads for MuJoCo and torch (default: measured).
        env_kwargs: the environment's constructor arguments.
        vectorization: how environments of other packages are stepped, see `rlgen.make_vec`.
        backend: what steps MuJoCo tasks in training: `mujoco`, or `warp`, on the device (`pip install "rlgen[warp]"`).
            Evaluations are by MuJoCo itself.
        backend_kwargs: arguments of `warp`, see `rlgen.make_vec`.
        values: settings by name, such as `eta=0.01, gamma=0.999`; see `rlgen.settings.with_values`.

    Raises:
        UsageError: an argument that can't be used; a misspelt one is told with the nearest.
        gymnasium.error.NameNotFound: an unknown id, with near matches.
    """

    settings: exploration.Exploration
    arguments: VIMEArguments
    columns: ClassVar[Mapping[str, str]] = {
        "bonus_reward": "bonus",
        "bonus_error": "error",
        "bonus_calibration_90": "calib. 90",
        "bonus_accuracy": "skill",
        "kl": "kl",
    }

    def __init__(
        self,
        env: AnyEnvironment,
        *,
        bonus: str = "vime",
        algo: str = "trpo",
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
        arguments = VIMEArguments(
            algo=algo,
            seed=seed,
            device=str(device),
            n_threads=n_threads,
            vectorization=vectorization,
            backend=backend,
            backend_kwargs=None if backend_kwargs is None else dict(backend_kwargs),
            **start_of(init, critic_warmup, values),
            bonus=bonus,
        )
        if wrong := [name for name in exploration.UNUSED.get(bonus, ()) if name in values]:
            raise UsageError(f"{wrong[0]} has no effect with bonus {bonus}")
        preset = exploration.settings(algo, environment_name(env), bonus)
        told = learner_settings(preset, settings, env, algo, values, VIME)
        if told.codes and bonus != "skills":
            raise UsageError(f"codes have no effect with bonus {bonus}")
        super().__init__(env, told, arguments, env_kwargs, init)
        self._restore({})

    @property
    def name(self) -> str:
        """Bonus and optimizer."""
        return f"{self.arguments.bonus}-{self.arguments.algo}"

    @property
    def reward(self) -> str:
        """The bonus's name."""
        return self.arguments.bonus

    @property
    def codes(self) -> Codes:
        """The skills, if it learns some."""
        return self.settings.codes

    def reward_model(self, envs: gym.vector.VectorEnv, policy: Policy) -> RewardModel:
        """The task's reward with a fresh bonus."""
        make, settings = exploration.BONUSES[self.arguments.bonus], self.settings
        device = policy.normalizer.mean.device
        return exploration.reward_model(envs, device, make, settings.bonus, settings.task_weight)

    def on_iteration(self, iteration: Iteration) -> None:
        """Note when reward was first met."""
        self._milestones(iteration)

    def _restore(self, facts: dict[str, Any]) -> None:
        self._milestones = exploration.Milestones(self.env_id)
        self.facts = self._milestones.facts
        self.facts.update({name: typed(float | None, facts.get(name), name) for name in self.facts})
