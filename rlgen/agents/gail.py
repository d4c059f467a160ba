"""Imitation: GAIL, AIRL, FEM and GTAL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym

from rlgen import imitation
from rlgen.agents.agent import AnyEnvironment, Told, one_of
from rlgen.agents.from_reward import Initial, RewardAgent, RewardArguments, learner_settings, start_of
from rlgen.agents.imitator import ExpertArguments, Imitator, drawn_from
from rlgen.data.demonstrations import Demonstrations
from rlgen.envs.batched_mujoco import BatchedMujocoEnv
from rlgen.envs.codes import CodedEnv, Codes
from rlgen.envs.make import Backend, Vectorization
from rlgen.envs.tensors import TensorEnv
from rlgen.errors import UsageError
from rlgen.experiment import choose_device
from rlgen.nn.policy import Policy
from rlgen.presets import OffPolicyLearner, Settings
from rlgen.ranges import NotNegative, Share
from rlgen.rewards.combine import WeightedSum
from rlgen.rewards.environment import EnvironmentReward
from rlgen.settings import ADDED
from rlgen.types import RewardModel, Transitions


@dataclass(frozen=True)
class GAILArguments(RewardArguments, ExpertArguments):
    """Those of `GAIL`.

    Attributes:
        reward_model: one of `rlgen.imitation.IMITATORS`.
        preset: one of `rlgen.imitation.PRESETS`.
        labels: learn codes from the modes that the dataset tells, too.
        task_reward_weight: of the task's own reward, beside the imitation's.
        start_share: share of the episodes that begin in states of the demonstrations.
    """

    reward_model: str
    preset: str
    labels: bool
    task_reward_weight: NotNegative = field(default=0.0, kw_only=True, metadata=ADDED)
    start_share: Share = field(default=0.0, kw_only=True, metadata=ADDED)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("reward_model", self.reward_model, imitation.IMITATORS)
        one_of("preset", self.preset, imitation.PRESETS)


class GAIL(Imitator, RewardAgent):
    """Imitate an expert by GAIL, or by another reward model learned from demonstrations.

        gail = rlgen.GAIL("HalfCheetah-v4", expert="expert_data")
        gail.learn(1_000_000)
        print(gail.evaluate())

    With `codes=3` it is InfoGAIL: the demonstrations are a mixture, and the policy imitates one of its modes by the
    code that it is given, without being told which demonstration is of which.

    Args:
        env: an id or what else `rlgen.make_vec` takes, or a vector environment with same-step autoreset.
        expert: a folder with a dataset for each environment, the folder of one dataset, or demonstrations.
        n_trajectories: number of expert trajectories to draw from a folder (default: 4 of a dataset that rlgen
            recorded, all of one that was converted).
        subsample: keep one state-action pair in this many (default: every pair in the dataset).
        include_failed: also draw from the episodes in which the expert failed.
        reward_model: `gail`, `airl`, `fem`, `gtal`, or `constant`, a control that rewards every step alike.
        algo: learner: `trpo` or `ppo`, from fresh rollouts; `svg`, off-policy and through a learned model, or `sac`.
        preset: settings, `default` or those of the `paper` (Ho & Ermon 2016).
        labels: with codes, learn those of the modes that the dataset's manifest tells of some episodes from these.
        task_reward_weight: weight of the task's own reward, which is added to the imitation's (default: 0). With
            `state_only=True, start_share=0.5` that is AMP (Peng et al. 2021): a task done in the style of a clip.
        start_share: share of the training episodes that begin in a state of the demonstrations, rather than as the
            task has it (default: 0); for batched MuJoCo tasks.
        settings: what replaces the preset's, see `Told`.
        init: the policy to start from, see `Initial` (default: a fresh one).
        critic_warmup: number of iterations in which the critic and the reward model alone learn, with `init`
            (default: 5).
        seed: seed of environments, networks and actions, and of the draw from the dataset.
        device: device of the networks: `cpu`, `cuda`, or `auto` (CUDA where there is one).
        n_threads: number of CPU threads for MuJoCo and torch (default: measured).
        env_kwargs: the environment's constructor arguments.
        vectorization: how environments of other packages are stepped, see `rlgen.make_vec`.
        backend: what steps MuJoCo tasks in training: `mujoco`, or `warp`, on the device (`pip install "rlgen[warp]"`).
            Evaluations are by MuJoCo itself.
        backend_kwargs: arguments of `warp`, see `rlgen.make_vec`.
        values: settings by name, such as `gamma=0.995, target_kl=0.02, state_only=True`; see
            `rlgen.settings.with_values`.

    Raises:
        DemonstrationError: no such dataset, a damaged one, or one of other spaces.
        UsageError: an argument that can't be used; a misspelt one is told with the nearest.
        gymnasium.error.NameNotFound: an unknown id, with near matches.
    """

    settings: imitation.Imitation
    arguments: GAILArguments
    columns: ClassVar[Mapping[str, str]] = {
        "discriminator_accuracy_policy": "D(policy)",
        "discriminator_accuracy_expert": "D(expert)",
        "code_accuracy": "code",
        "kl": "kl",
    }

    def __init__(
        self,
        env: AnyEnvironment,
        expert: str | Path | Demonstrations,
        *,
        n_trajectories: int | None = None,
        subsample: int | None = None,
        include_failed: bool = False,
        reward_model: str = "gail",
        algo: str = "trpo",
        preset: str = "default",
        labels: bool = False,
        task_reward_weight: float = 0.0,
        start_share: float = 0.0,
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
        arguments = GAILArguments(
            algo=algo,
            seed=seed,
            device=str(device),
            n_threads=n_threads,
            vectorization=vectorization,
            backend=backend,
            backend_kwargs=None if backend_kwargs is None else dict(backend_kwargs),
            **start_of(init, critic_warmup, values),
            **drawn_from(expert, n_trajectories, subsample, include_failed),
            reward_model=reward_model,
            preset=preset,
            labels=labels,
            task_reward_weight=task_reward_weight,
            start_share=start_share,
        )
        if wrong := [name for name in imitation.UNUSED.get(reward_model, ()) if name in values]:
            raise UsageError(f"{wrong[0]} has no effect with reward_model {reward_model}")
        if isinstance(settings, Settings) and preset != "default":
            raise UsageError("whole settings take the preset's place; leave out one of them")
        told = learner_settings(imitation.settings(preset, algo), settings, env, algo, values, GAIL)
        if "code_weight" in values and not told.code:
            raise UsageError("code_weight has no effect without codes")
        if labels and not told.code.codes:
            raise UsageError("labels have no effect without codes")
        if task_reward_weight and isinstance(told.learner, OffPolicyLearner):
            raise UsageError(
                f"task_reward_weight needs algo trpo or ppo: {algo} learns from the expert's pairs too, and what this "
                "task rewards them with isn't known"
            )
        if told.code and reward_model == "airl":
            raise UsageError(
                "codes need another reward_model than airl, which reads the policy's likelihoods of actions"
            )
        if told.code and isinstance(told.learner, OffPolicyLearner):
            raise UsageError(f"codes need algo trpo or ppo: {algo} starts from the expert's pairs, which have no code")
        super().__init__(env, told, arguments, env_kwargs, init)
        self.facts = {"preset": preset, **self._imitate(expert)}

    @property
    def name(self) -> str:
        """Reward model and optimizer."""
        return f"{self.arguments.reward_model}-{self.arguments.algo}"

    @property
    def reward(self) -> str:
        """The reward's name in a run's summary."""
        model = self.arguments.reward_model
        return self.settings.reward if model == "gail" else model

    @property
    def codes(self) -> Codes:
        """The codes that the policy acts by."""
        return self.settings.code

    def prepare(self, envs: gym.vector.VectorEnv) -> None:
        """Have episodes begin where they are to."""
        super().prepare(envs)
        if not self.arguments.start_share:
            return
        plain = envs.env if isinstance(envs, CodedEnv) else envs
        if not isinstance(plain, BatchedMujocoEnv | TensorEnv):
            raise UsageError(f"start_share needs a batched MuJoCo task; got {self.env_id}")
        obs: Any = self.demonstrations.fitted_to(plain).transitions.obs
        plain.start_from(obs if isinstance(plain, TensorEnv) else obs.numpy(), self.arguments.start_share)

    def reward_model(self, envs: gym.vector.VectorEnv, policy: Policy) -> RewardModel:
        """A fresh one, trained on the demonstrations; beside it the task's own reward, if that has a weight."""
        imitator, weight = self._imitator(envs, policy), self.arguments.task_reward_weight
        if not weight:
            return imitator
        terms = {"imitation": (imitator, 1.0), "task": (EnvironmentReward(), weight)}
        return WeightedSum(terms, main="imitation")

    def _imitator(self, envs: gym.vector.VectorEnv, policy: Policy) -> RewardModel:
        make = imitation.IMITATORS[self.arguments.reward_model]
        if not self.settings.state_only:
            self.demonstrations.require_actions(f"reward model {self.arguments.reward_model}")
        if isinstance(envs, CodedEnv):
            drawn, labels = self.demonstrations, self.arguments.labels
            return imitation.with_codes(envs, self.settings, policy, drawn, make, labels)
        return make(self.settings, policy, self.settings.expert(envs, policy, self.demonstrations))

    def examples(self, envs: gym.vector.VectorEnv) -> Transitions | None:
        """The expert's transitions, where they have actions."""
        pairs = self.demonstrations.fitted_to(envs).transitions
        return pairs.apply(lambda x: x.to(choose_device(self.arguments.device))) if pairs.actions.numel() else None

    def derived(self) -> str:
        """What is derived from the demonstrations, in lines to print."""
        ends = self.settings.absorbing_states and "absorbing_states" not in imitation.UNUSED.get(
            self.arguments.reward_model, ()
        )
        return f"{self.demonstrations}\n{replace(self.settings, absorbing_states=ends).derived(self.demonstrations)}"
