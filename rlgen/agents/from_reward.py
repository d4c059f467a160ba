"""Agents that learn from a reward, on fresh rollouts by TRPO and PPO or from all steps so far by SVG and SAC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import gymnasium as gym

from rlgen import presets
from rlgen.agents.agent import (
    Agent,
    AnyEnvironment,
    Arguments,
    Told,
    folder_path,
    one_of,
    origin,
    told_settings,
    whole_number,
)
from rlgen.checkpoint import FILE, load_policy
from rlgen.data.demonstrations import dataset_folder, load_expert
from rlgen.data.episodes import check_ends
from rlgen.envs import make_vec
from rlgen.envs.batched_mujoco import BatchedMujocoEnv
from rlgen.envs.codes import CodedEnv, batch_of
from rlgen.envs.make import Backend, Vectorization, environment_name
from rlgen.envs.tensors import TensorEnv
from rlgen.errors import UsageError
from rlgen.experiment import choose_device
from rlgen.nn.policy import Policy
from rlgen.off_policy import OffPolicyTraining
from rlgen.optim.ppo import PPOConfig
from rlgen.optim.svg import SVGConfig
from rlgen.optim.trpo import TRPOConfig
from rlgen.presets import Learner, LearnerSettings, OffPolicyLearner
from rlgen.ranges import Range
from rlgen.run_log import ORIGINS
from rlgen.settings import ADDED
from rlgen.spaces import describe_space, flat_box
from rlgen.train import Training
from rlgen.types import RewardModel, Transitions

S = TypeVar("S", bound=LearnerSettings)
Initial = str | Path | Policy | Agent
"""A policy to start from: a run's or an agent's folder, a dataset's with its expert, a policy, or an agent."""


@dataclass(frozen=True)
class RewardArguments(Arguments):
    """Those of agents that learn from a reward.

    Attributes:
        algo: learner, one of `rlgen.presets.LEARNERS`.
        vectorization: how environments of other packages are stepped, see `rlgen.make_vec`.
        backend: what steps MuJoCo tasks in training, likewise.
        backend_kwargs: its arguments, likewise.
        init: the folder of the policy to start from; None: a fresh policy, or one that was passed.
        critic_warmup: iterations in which a policy that training starts from stays as it is; 0 of a fresh one.
    """

    algo: str
    vectorization: Vectorization
    backend: Backend = field(default="mujoco", kw_only=True, metadata=ADDED)
    backend_kwargs: dict[str, Any] | None = field(default=None, kw_only=True, metadata=ADDED)
    init: Path | None
    critic_warmup: Annotated[int, Range(0)]

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("algo", self.algo, presets.LEARNERS)
        one_of("backend", self.backend, get_args(Backend))


class RewardAgent(Agent):
    """An agent behind which is a `rlgen.train.Training` of a learner, a reward model and environments.

    With parts of your own, compose these.

    It can start from a trained policy (`init`), by behaviour cloning for example. In the first `critic_warmup`
    iterations critic and reward model alone learn then, since a policy that is improved by a critic that knows nothing
    is soon no better than a fresh one.
    """

    settings: LearnerSettings
    arguments: RewardArguments
    training: Training | OffPolicyTraining
    _initial: Policy | None = None
    _origins: Mapping[str, str | None] = {}

    def __init__(
        self,
        env: Any,
        settings: LearnerSettings,
        arguments: RewardArguments,
        env_kwargs: Mapping[str, Any] | None,
        init: Initial | None = None,
    ) -> None:
        for name, default in (("vectorization", "sync"), ("backend", "mujoco"), ("backend_kwargs", None)):
            if isinstance(env, gym.vector.VectorEnv) and getattr(arguments, name) != default:
                raise UsageError(f"{name} has no effect on a vector environment")
        if init is not None and isinstance(settings.learner, OffPolicyLearner):
            raise UsageError(f"init has no effect with algo {arguments.algo}, which starts from a fresh policy")
        super().__init__(env, settings, arguments, env_kwargs)
        self._initial = None if init is None else initial_policy(init, self.env_id)
        self._origins = {"init": None if init is None or isinstance(init, Policy) else origin(init)}
        self.settings = self._fitting(self.settings)

    def reward_model(self, envs: gym.vector.VectorEnv, policy: Policy) -> RewardModel:
        """A fresh one for these environments, on the policy's device."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The optimizer's."""
        return self.arguments.algo

    def _config(self) -> dict[str, Any]:
        kept = self._origins if self._loaded is None else self._loaded.config
        return super()._config() | {name: kept[name] for name in ORIGINS if kept.get(name)}

    def close(self) -> None:
        """Close the environments, if there are any."""
        if self._training is not None:
            self.training.collector.envs.close()

    def _fitting(self, settings: S) -> S:  # type: ignore[override]
        """Settings for the environments and the policy that were passed."""
        learner = settings.learner
        if self._envs is not None:
            learner = learner.override(n_envs=self._envs.num_envs)
        if self._initial is not None:
            learner = replace(learner, net_arch=self._initial.net_arch)
        return replace(settings, learner=learner)

    def prepare(self, envs: gym.vector.VectorEnv) -> None:
        """Make environments ready to be trained in: episodes begin as the task has it, whoever used them before."""
        plain = envs.env if isinstance(envs, CodedEnv) else envs
        if isinstance(plain, BatchedMujocoEnv | TensorEnv):
            plain.start_from(None)

    def examples(self, envs: gym.vector.VectorEnv) -> Transitions | None:
        """What an off-policy learner keeps beside its own transitions; None: nothing."""
        return None

    def _build(self) -> Training | OffPolicyTraining:
        arguments, learner = self.arguments, self.settings.learner
        device = choose_device(arguments.device)
        if self.env is None:
            raise UsageError(f"the folder doesn't tell how {self.env_id} was made; pass env to load")
        if self._envs is None:
            envs = make_vec(
                self._coded(self.env),
                learner.n_envs,
                arguments.seed,
                n_threads=arguments.n_threads,
                vectorization=arguments.vectorization,
                backend=arguments.backend,
                device="cpu" if arguments.backend == "mujoco" else device,
                backend_kwargs=arguments.backend_kwargs,
                env_kwargs=self.env_kwargs,
            )
            if arguments.vectorization != "sync" and (isinstance(envs, TensorEnv) or batch_of(envs) is not None):
                raise UsageError(
                    f"vectorization {arguments.vectorization} has no effect: {self.env_id} is stepped as one batch"
                )
            check_ends(envs, self.env, self.env_kwargs)
        else:
            envs = CodedEnv(self._envs, self.codes) if self.codes else self._envs
            envs.reset(seed=arguments.seed)
        self.prepare(envs)
        if self._initial is not None:
            check_spaces(self._initial, envs, self.env_id)
        if isinstance(learner, OffPolicyLearner):
            return learner.training(envs, self.reward_model, arguments.seed, device, self.examples(envs))
        return learner.training(envs, self.reward_model, arguments.seed, device, self._initial, arguments.critic_warmup)


CRITIC_WARMUP = 5
"""Iterations, by default, in which a policy that training starts from stays as it is."""


def start_of(init: Initial | None, critic_warmup: int | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments `init` and `critic_warmup` from what a user tells, also by `values`."""
    if init is not None and (wrong := [name for name in ("net_arch", "log_std_init") if name in values]):
        raise UsageError(f"{wrong[0]} has no effect with init, whose policy has its own")
    if init is None and critic_warmup is not None:
        raise UsageError("critic_warmup has no effect without init")
    path = folder_path("init", init) if isinstance(init, str | Path) else None
    warmup = CRITIC_WARMUP if critic_warmup is None else whole_number("critic_warmup", critic_warmup)
    return {"init": path, "critic_warmup": 0 if init is None else warmup}


def initial_policy(init: Initial, env_id: str) -> Policy:
    """The policy that `init` names.

    Raises:
        CheckpointError: the folder of a run or an agent holds a damaged policy.
        DemonstrationError: the folder holds a dataset of `env_id` without its expert's weights, or a damaged one.
        UsageError: it is nothing of the kind.
    """
    if isinstance(init, Agent):
        return init.policy
    if isinstance(init, Policy):
        return init
    folder = folder_path("init", init)
    if (folder / FILE).exists():
        return load_policy(folder)
    if dataset_folder(folder, env_id) is None:
        raise UsageError(f"init: {folder} holds neither a run nor a dataset of {env_id} with its expert")
    return load_expert(folder, env_id)


def check_spaces(policy: Policy, envs: gym.vector.VectorEnv, env_id: str) -> None:
    """Refuse to start in environments from a policy of other spaces, by a UsageError."""
    seen, there = policy.observation_space.columns, flat_box(envs.single_observation_space).columns
    if seen != there:
        observations = envs.single_observation_space
        raise UsageError(f"init: its policy sees observations {policy.observation_space}; {env_id} has {observations}")
    if describe_space(policy.action_space) != describe_space(envs.single_action_space):
        raise UsageError(
            f"init: its policy's actions are {policy.action_space}; {env_id} has {envs.single_action_space}"
        )


def learner_settings(
    preset: S,
    told: Told | None,
    env: AnyEnvironment,
    algo: str,
    values: Mapping[str, Any],
    agent: type[Agent] = RewardAgent,
) -> S:
    """A preset with the settings that a user tells, see `rlgen.agents.agent.told_settings`."""
    if isinstance(told, LearnerSettings) and type(told.learner.optimizer) is not type(preset.learner.optimizer):
        raise UsageError(f"algo is {algo}; the settings' optimizer is {type(told.learner.optimizer).__name__}")
    if isinstance(env, gym.vector.VectorEnv) and values.get("n_envs", env.num_envs) != env.num_envs:
        raise UsageError(f"n_envs is {values['n_envs']}, and the vector environment has {env.num_envs}")
    known = vars(preset.learner).keys() | vars(preset.learner.optimizer).keys()
    if wrong := [name for name in values if name in _OF_LEARNERS - known]:
        raise UsageError(f"{wrong[0]} is no setting of {algo}'s")
    return told_settings(preset, told, environment_name(env), algo, values, agent)


_OF_LEARNERS = {
    field.name for kind in (Learner, OffPolicyLearner, TRPOConfig, PPOConfig, SVGConfig) for field in fields(kind)
}
"""Every setting that some learner has."""
