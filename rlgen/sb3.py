"""For Stable-Baselines3's learners: our vector environments, and our reward models."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvObs, VecEnvStepReturn

from rlgen.data.episodes import sb3_normalizers
from rlgen.envs.batched import require_same_step
from rlgen.envs.tensors import require_arrays
from rlgen.errors import UsageError
from rlgen.nn.discriminator import ShapedDiscriminator
from rlgen.nn.improved_gan import MinibatchFeatures
from rlgen.nn.normalizer import RewardScaler
from rlgen.ranges import Count, ShareBelowOne, check
from rlgen.spaces import ActionUnits, FlatBox
from rlgen.types import RewardModel, Transitions, rewards_of


class SB3VecEnv(VecEnv):
    """A same-step-autoreset vector environment as SB3's `DummyVecEnv` of environments in a `Monitor`.

    Observations have the dtype of the space, rewards are float32. `infos[i]` holds what environment i's own step told,
    `TimeLimit.truncated` and, at an episode's end, `terminal_observation` and `episode` (`r` return, `l` length, `t`
    seconds); what its reset told is in `reset_infos[i]`.

    Args:
        envs: as `rlgen.make_vec` gives.

    Raises:
        UsageError: the environments reset in another step than the one that ends an episode.
    """

    def __init__(self, envs: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        require_same_step(envs)
        require_arrays(envs, "SB3VecEnv")
        space = envs.single_observation_space
        if isinstance(space, gym.spaces.Box):  # gymnasium's own class, so that a saved model can be loaded without us
            space = gym.spaces.Box(space.low, space.high, dtype=space.dtype)  # type: ignore[arg-type]
        self.envs = envs
        self._started = time.time()
        self._returns = np.zeros(envs.num_envs)
        self._lengths = np.zeros(envs.num_envs, np.int64)
        super().__init__(envs.num_envs, space, envs.single_action_space)
        self.metadata = envs.metadata

    def reset(self) -> VecEnvObs:
        """Reset all, with the seed given to `seed` and the options given to `set_options`, if any."""
        seed = self._seeds[0]  # the others follow it
        if all(options == self._options[0] for options in self._options):
            obs, infos = self.envs.reset(seed=seed, options=self._options[0] or None)
            self.reset_infos = _by_environment(infos, self.num_envs)
        else:
            for i, options in enumerate(self._options):
                mask = np.arange(self.num_envs) == i
                obs, infos = self.envs.reset(seed=seed, options={**options, "reset_mask": mask})
                self.reset_infos[i] = _by_environment(infos, self.num_envs)[i]
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0, 0
        return obs

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and translate the ends of episodes."""
        obs, rewards, terminated, truncated, vector_infos = self.envs.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        done = terminated | truncated
        of_ends = ("final_obs", "final_info", "_final_obs", "_final_info")
        finals, final_infos, *_ = (vector_infos.pop(key, {}) for key in of_ends)
        infos = _by_environment(vector_infos, self.num_envs)
        ended = np.flatnonzero(done).tolist()
        if ended:
            of_final_steps = _by_environment(final_infos, self.num_envs)
            for i in ended:
                self.reset_infos[i], infos[i] = infos[i], of_final_steps[i]
        for info in infos:
            info["TimeLimit.truncated"] = False
        for i in ended:
            infos[i] |= {
                "terminal_observation": finals[i],
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "episode": {
                    "r": round(float(self._returns[i]), 6),
                    "l": int(self._lengths[i]),
                    "t": round(time.time() - self._started, 6),
                },
            }
            self._returns[i], self._lengths[i] = 0, 0
        return obs, rewards.astype(np.float32), done, infos

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def get_images(self) -> Sequence[npt.NDArray[Any] | None]:
        """A picture of each environment."""
        return self.envs.render() or [None] * self.num_envs  # type: ignore[return-value]

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of each environment of `indices`."""
        envs = self.envs.unwrapped
        if isinstance(envs, gym.vector.SyncVectorEnv):  # whose own get_attr calls what it finds, where that is a method
            return [envs.envs[i].get_wrapper_attr(attr_name) for i in self._get_indices(indices)]
        values = envs.get_attr(attr_name)  # type: ignore[attr-defined]
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of each environment of `indices`; an AttributeError for a batch, which shares them."""
        values = [value] * self.num_envs
        for i in set(range(self.num_envs)) - set(self._get_indices(indices)):
            values[i] = self.get_attr(attr_name, i)[0]
        self.envs.unwrapped.set_attr(attr_name, values)  # type: ignore[attr-defined]

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """The results of a method of each environment of `indices`.

        An AttributeError where one environment alone has no methods, being of a batch or in another process.
        """
        chosen, envs = list(self._get_indices(indices)), self.envs.unwrapped
        if isinstance(envs, gym.vector.SyncVectorEnv):
            return [envs.envs[i].get_wrapper_attr(method_name)(*args, **kwargs) for i in chosen]
        if sorted(chosen) != list(range(self.num_envs)):
            raise AttributeError(f"{type(envs).__name__} calls {method_name} in all environments, not in some")
        results = envs.call(method_name, *args, **kwargs)  # type: ignore[attr-defined]
        return [results[i] for i in chosen]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Whether each environment of `indices` has a wrapper; `Monitor`'s work is done here."""
        envs = getattr(self.envs.unwrapped, "envs", None)
        return [
            wrapper_class is Monitor or (envs is not None and is_wrapped(envs[i], wrapper_class))
            for i in self._get_indices(indices)
        ]


def _by_environment(infos: Mapping[str, Any], n_envs: int) -> list[dict[str, Any]]:
    """A vector environment's infos as one dict for each environment, with the keys that it gave."""
    shared: dict[str, Any] = {}
    partial: list[tuple[str, Any, npt.NDArray[np.bool_]]] = []
    for name, values in infos.items():
        if name[:1] == "_" and name[1:] in infos:
            continue  # says which environments gave the key
        column = _by_environment(values, n_envs) if isinstance(values, Mapping) else values
        mask = infos.get(f"_{name}")
        if mask is None or mask.all():
            shared[name] = column
        else:
            partial.append((name, column, mask))
    rows = [dict(zip(shared, row, strict=True)) for row in zip(*shared.values(), strict=True)]
    rows = rows or [{} for _ in range(n_envs)]
    for name, column, mask in partial:
        for i in np.flatnonzero(mask).tolist():
            rows[i][name] = column[i]
    return rows


class RewardModelCallback(BaseCallback):
    """Pays SB3's PPO or A2C, or sb3-contrib's TRPO, by a reward model, which learns from each rollout.

        model = PPO("MlpPolicy", SB3VecEnv(rlgen.make_vec("HalfCheetah-v4", 8)))
        model.learn(1_000_000, callback=RewardModelCallback(reward_model))

    At a rollout's end the buffer's rewards become the reward model's, each with what SB3 added for the value behind a
    time limit; returns and advantages are computed again, then the reward model learns. Transitions hold executed
    (clipped) actions and true successors, flat where observations are a Dict or of more dimensions. Episode returns
    that SB3 logs stay the environment's.

    Under `VecNormalize` the reward model sees raw observations and raw rewards, and `norm_reward` doesn't apply to its
    own rewards.

    Args:
        reward_model: on `device`.
        device: where transitions are put.
        centre_rewards: centre and scale the rewards as `rlgen.train.Training` does, see
            `rlgen.nn.normalizer.RewardScaler`. Imitation needs it where episodes terminate.

    Raises:
        FloatingPointError: in training, a reward isn't finite.
        UsageError: AIRL's discriminator, which needs likelihoods of a policy of ours; when training starts, the learner
            collects in another way, or a wrapper changes observations in a way that can't be undone.
    """

    model: OnPolicyAlgorithm

    def __init__(
        self, reward_model: RewardModel, device: torch.device | str = "cpu", centre_rewards: bool = False
    ) -> None:
        super().__init__()
        _refuse_likelihoods(reward_model)
        self.reward_model = reward_model
        self.device = device
        self.centre_rewards = centre_rewards
        self._scaler: RewardScaler | None = None
        self._steps: list[tuple[npt.NDArray[Any], ...]] = []
        self._normalize: Any = None
        self._finals: dict[int, Any] = {}

    def _on_training_start(self) -> None:
        collect = getattr(type(self.model), "collect_rollouts", None)
        if collect is not OnPolicyAlgorithm.collect_rollouts:
            name = type(self.model).__name__
            raise UsageError(
                f"a reward model needs a learner with SB3's on-policy rollouts, as PPO, A2C, TRPO; not {name}. "
                "SAC, TD3 and DQN take a RewardModelReplayBuffer"
            )
        env = self.training_env
        same = self._scaler is not None and len(self._scaler.returns) == env.num_envs
        if self.centre_rewards and not same:
            self._scaler = RewardScaler(env.num_envs, self.model.gamma, centre=True).to(self.device)
        self._space = FlatBox(env.unwrapped.observation_space)
        self._normalize = next(iter(sb3_normalizers(env)), None)
        if self._normalize is not None:
            self._keep_final_observations(self._normalize.venv)

    def _keep_final_observations(self, below: VecEnv) -> None:
        """Note what passes from the environments: `VecNormalize` clips final observations and keeps no others."""
        vars(below).pop("step_wait", None)  # of a training that an exception ended
        step_wait = below.step_wait

        def noting() -> VecEnvStepReturn:
            result = step_wait()
            self._finals = {i: result[3][i]["terminal_observation"] for i in np.flatnonzero(result[2]).tolist()}
            return result

        vars(below)["step_wait"] = noting

    def _on_training_end(self) -> None:
        if self._normalize is not None:
            vars(self._normalize.venv).pop("step_wait", None)

    def _raw(self, obs: Any) -> npt.NDArray[Any]:
        """Observations `[n_envs, D]` as the environments gave them, of which the learner sees `obs`."""
        obs = obs if self._normalize is None else self._normalize.get_original_obs()
        return self._space.flatten(obs, self.training_env.num_envs)

    def _on_rollout_start(self) -> None:
        self._steps = []
        self._obs = self._raw(self.model._last_obs)

    def _on_step(self) -> bool:
        found = self.locals
        done, infos = np.asarray(found["dones"], np.bool_), found["infos"]
        obs, self._obs = self._obs, self._raw(found["new_obs"])
        next_obs = self._obs.copy()
        truncated = np.zeros_like(done)
        for i in np.flatnonzero(done).tolist():
            final = infos[i]["terminal_observation"] if self._normalize is None else self._finals[i]
            next_obs[i] = self._space.flatten(final, 1)[0]
            truncated[i] = infos[i].get("TimeLimit.truncated", False)
        actions = np.array(found["clipped_actions"])
        # Copied: SB3 adds the value behind a time limit to this very array.
        seen = np.array(found["rewards"], np.float32)
        rewards = seen if self._normalize is None else np.array(self._normalize.get_original_reward(), np.float32)
        self._steps.append((obs, actions, next_obs, rewards, done & ~truncated, truncated, seen))
        return True

    def _on_rollout_end(self) -> None:
        *steps, seen = (np.stack(x) for x in zip(*self._steps, strict=True))
        transitions = Transitions(*(torch.from_numpy(x).to(self.device) for x in steps))
        buffer = self.model.rollout_buffer
        rewards = rewards_of(self.reward_model, transitions)
        if self._scaler is not None or not rewards.is_floating_point():
            rewards = rewards.to(transitions.rewards.dtype)
        if not rewards.isfinite().all():
            raise FloatingPointError(f"after {self.num_timesteps} steps: a reward of the reward model is not finite")
        self.logger.record("reward_model/reward", float(rewards.mean()))
        if self._scaler is not None:
            rewards = self._scaler(rewards, transitions.terminated, transitions.truncated)
        # In float64 the difference is exact, and so is its sum with a reward that is the environment's own.
        buffer.rewards[:] = rewards.cpu().double().numpy() + (buffer.rewards.astype(np.float64) - seen)
        buffer.compute_returns_and_advantage(self.locals["values"], self.locals["dones"])
        for name, value in self.reward_model.update(transitions).items():
            self.logger.record(f"reward_model/{name}", float(value))


def _refuse_likelihoods(reward_model: RewardModel) -> None:
    """Refuse AIRL's discriminator, by a UsageError."""
    if any(isinstance(part, ShapedDiscriminator) for part in _parts(reward_model)):
        raise UsageError(
            "AIRL's discriminator reads likelihoods of rlgen's own policy, which SB3 does not train; use GAIL with a "
            "Discriminator, or the reward that a run of AIRL recovered (rlgen.agents.recovered.recovered_reward)"
        )


def _parts(reward_model: RewardModel) -> Iterable[torch.nn.Module]:
    return reward_model.modules() if isinstance(reward_model, torch.nn.Module) else ()


class RewardModelReplayBuffer(ReplayBuffer):
    """Pays SB3's SAC, TD3 or DQN by a reward model, which learns from the steps as they are taken.

        options = {"reward_model": gail}
        model = SAC("MlpPolicy", envs, replay_buffer_class=RewardModelReplayBuffer, replay_buffer_kwargs=options)
        model.learn(100_000)

    Transitions are scored when they are sampled, so that a reward is never older than the reward model. Every
    `update_every` steps it learns from the latest ones, as from a rollout `[T, N]`. Transitions hold executed actions
    in the environment's own units and true successors, flat where observations are of more dimensions. Episode returns
    that SB3 logs stay the environment's; `metrics` are the reward model's.

    SB3's critics learn r + gamma (1 - terminated) Q(s', a'): a termination is worth 0 from the next step on, so that
    rewards which are negative everywhere make ending good, and positive ones living on. A constant added to all rewards
    changes that, unless the absorbing state behind a termination earns it too: `centre_rewards` subtracts the mean m of
    the rewards that were sampled lately, and adds to a termination's what m less a step for ever is worth,

        r - m - terminated gamma m / (1 - gamma),

    so that each Q(s, a) falls by m / (1 - gamma) and no policy's rank changes (the return of an absorbing state in
    section 4.2 of Kostrikov et al. 2019, https://arxiv.org/abs/1809.02925). A critic that starts at 0 then takes what
    was never visited for neither better nor worse than what was, and needn't follow the level of rewards as the reward
    model learns. `rlgen.rewards.endings.TerminationReward` needs centred rewards. Rewards aren't scaled.

    Under `VecNormalize` the reward model sees raw observations and raw rewards, and `norm_reward` doesn't apply to its
    own rewards. Last observations of episodes are what SB3 keeps of them there: rounded, and within `clip_obs`.

    `model.save` keeps the reward model among the `replay_buffer_kwargs`, `save_replay_buffer` as a part of the buffer,
    which is what a model goes on with that loads both. Both are SB3's pickles: load your own only.

    Args:
        buffer_size: as the next four, SB3's; the learner gives them.
        observation_space: a Dict needs `RewardModelDictReplayBuffer`.
        action_space: see above.
        device: see above.
        n_envs: N.
        reward_model: on the learner's device.
        update_every: environment steps between updates of the reward model.
        n_recent: the steps that it learns from at each update, as many as there are (default: those since the last). A
            policy changes faster here than on-policy, and a discriminator that sees its last episode alone forgets the
            others; a bonus should see each step once.
        centre_rewards: see above. Imitation needs it where episodes terminate.
        gamma: the learner's discount, which centred rewards need.
        options: `handle_timeout_termination` and `optimize_memory_usage` of SB3, at their defaults.

    Attributes:
        env_rewards: the environment's own rewards, `[buffer_size, N]`; `rewards` are the last that were paid.
        metrics: of the reward model's last update, and the mean reward of the steps it learned from.

    Raises:
        FloatingPointError: in training, a reward isn't finite.
        UsageError: an option that loses what a reward model must see, AIRL's discriminator, which needs likelihoods of
            a policy of ours, minibatch features, or a number outside its range.
    """

    n_steps = 1

    def __init__(
        self,
        buffer_size: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        *,
        reward_model: RewardModel,
        update_every: int = 1_000,
        n_recent: int | None = None,
        centre_rewards: bool = False,
        gamma: float = 0.99,
        **options: Any,
    ) -> None:
        name = type(self).__name__
        if options.get("optimize_memory_usage") or not options.get("handle_timeout_termination", True):
            raise UsageError(
                f"{name} needs optimize_memory_usage=False and handle_timeout_termination=True: otherwise SB3 forgets "
                "the last observations of episodes, and which of them a time limit cut"
            )
        if isinstance(observation_space, gym.spaces.Dict) and not isinstance(self, DictReplayBuffer):
            raise UsageError(f"{name} holds no Dict observations; use RewardModelDictReplayBuffer")
        _refuse_likelihoods(reward_model)
        if any(isinstance(part, MinibatchFeatures) for part in _parts(reward_model)):
            raise UsageError(f"minibatch features need rollouts; {name} draws steps one by one")
        check("update_every", update_every, Count)
        check("n_recent", n_recent, Count | None)
        if centre_rewards:
            check("gamma", gamma, ShareBelowOne)
        super().__init__(buffer_size, observation_space, action_space, device, n_envs, **options)
        if update_every > self.buffer_size * n_envs:
            raise UsageError(f"update_every must be at most buffer_size, {buffer_size}; got {update_every}")
        self.reward_model = reward_model
        self.update_every = update_every
        self.n_recent = n_recent or 0
        self.gamma = gamma
        self.env_rewards = np.zeros_like(self.rewards)
        self.metrics: dict[str, float] = {}
        self._space = FlatBox(observation_space)
        self.centre_rewards = centre_rewards
        self._n_new = 0
        self._sampled = np.zeros(2)  # weighted sum of the batches' mean rewards, and the sum of the weights

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: list[dict[str, Any]]) -> None:
        """Keep a step of each environment; every `update_every` steps the reward model learns."""
        self.env_rewards[self.pos] = reward
        super().add(obs, next_obs, action, reward, done, infos)
        self._n_new += 1
        if self._n_new * self.n_envs >= self.update_every:
            self._learn(min(max(self._n_new, -(-self.n_recent // self.n_envs)), self.size()))
            self._n_new = 0

    def reset(self) -> None:
        """Forget all transitions."""
        super().reset()
        self._n_new = 0

    def _learn(self, n_rows: int) -> None:
        transitions = self._transitions((self.pos + np.arange(-n_rows, 0)) % self.buffer_size)
        rewards = self._scores(transitions)
        learned = self.reward_model.update(transitions)
        self.metrics = {"reward": float(rewards.mean())} | {name: float(value) for name, value in learned.items()}

    def _get_samples(self, batch_inds: npt.NDArray[Any], env: VecNormalize | None = None) -> ReplayBufferSamples:
        rows = np.unique((batch_inds[:, np.newaxis] + np.arange(self.n_steps)) % self.buffer_size)
        rows = rows[rows < self.size()]
        transitions = self._transitions(rows)
        rewards = self._scores(transitions)
        if self.centre_rewards:
            self._sampled = 0.99 * self._sampled + (float(rewards.mean()), 1)
            mean = self._sampled[0] / self._sampled[1]
            rewards = rewards - mean - transitions.terminated * (self.gamma * mean / (1 - self.gamma))
        self.rewards[rows] = rewards.cpu().numpy()
        return super()._get_samples(batch_inds, env)

    @staticmethod
    def _normalize_reward(reward: npt.NDArray[Any], env: VecNormalize | None = None) -> npt.NDArray[Any]:
        return reward

    @torch.no_grad()
    def _scores(self, transitions: Transitions) -> torch.Tensor:
        rewards = rewards_of(self.reward_model, transitions).float()
        if not rewards.isfinite().all():
            raise FloatingPointError("a reward of the reward model is not finite")
        return rewards

    def _transitions(self, rows: npt.NDArray[Any]) -> Transitions:
        """The steps `[len(rows), N]` that rows of the buffer hold."""
        shape = len(rows), self.n_envs
        obs, next_obs = (
            self._space.flatten(_rows(kept, rows), len(rows) * self.n_envs).reshape(*shape, -1)
            for kept in (self.observations, self.next_observations)
        )
        actions = self.actions[rows].reshape(*shape, *(self.action_space.shape or ()))
        if isinstance(self.action_space, gym.spaces.Box):  # SB3 keeps them in units of the space
            low, high = self.action_space.low, self.action_space.high
            actions = low + 0.5 * (actions + 1) * (high - low)
        actions = actions.astype(ActionUnits(self.action_space).stored_dtype, copy=False)
        truncated = self.timeouts[rows] > 0
        terminated = (self.dones[rows] > 0) & ~truncated
        steps = obs, actions, next_obs, self.env_rewards[rows], terminated, truncated
        return Transitions(*(torch.from_numpy(x).to(self.device) for x in steps))


def _rows(kept: Any, rows: npt.NDArray[Any]) -> Any:
    """Rows of an array, or of each array of a dict."""
    return {key: part[rows] for key, part in kept.items()} if isinstance(kept, dict) else kept[rows]


class RewardModelDictReplayBuffer(RewardModelReplayBuffer, DictReplayBuffer):  # type: ignore[misc]
    """`RewardModelReplayBuffer` for Dict observations, which the reward model sees flat (`rlgen.spaces.FlatBox`)."""


class RewardModelNStepReplayBuffer(RewardModelReplayBuffer, NStepReplayBuffer):  # type: ignore[misc]
    """`RewardModelReplayBuffer` with SB3's n-step returns, by `n_steps` and `gamma` of `replay_buffer_kwargs`."""
