"""What a user constructs: a policy, and all that it takes to train it in an environment."""

from __future__ import annotations

import contextlib
import copy
import difflib
import inspect
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Never, Self, TypeVar, get_type_hints

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.envs.registration import EnvSpec

from rlgen.checkpoint import FILE, load_checkpoint, save_checkpoint
from rlgen.command import RunOptions
from rlgen.data.episodes import RandomActor
from rlgen.envs.batched import require_same_step
from rlgen.envs.codes import Coded, Codes
from rlgen.envs.make import Environment, environment_name, maker
from rlgen.errors import CheckpointError, UsageError
from rlgen.evaluation import Evaluation, evaluate
from rlgen.experiment import Result, Signals, checkpoint_facts, run
from rlgen.files import canonical_json, sha256, write_bytes, write_json
from rlgen.nn.policy import Actor, Policy
from rlgen.presets import Settings
from rlgen.ranges import Checked, Seed, Threads
from rlgen.run_log import ORIGINS, Display, plain, provenance, read_config, row_of
from rlgen.settings import SettingsFile, from_json, nearest, override, read_settings, with_values, without_added
from rlgen.spaces import flat_box
from rlgen.threads import choose_threads
from rlgen.train import Iteration, Loop, keep_freed_memory
from rlgen.video import camera, camera_of_codes, write_mp4

if TYPE_CHECKING:
    import pandas as pd


S = TypeVar("S", bound=Settings)
AnyEnvironment = Environment | gym.vector.VectorEnv
Told = Settings | SettingsFile | Mapping[str, Any] | str | Path
"""Settings: whole ones, a table of those that differ (`rlgen.settings.override`), or a TOML file of such tables."""


@dataclass(frozen=True)
class Arguments(Checked):
    """What an agent was made with, beside its environment and settings; JSON values, kept in `config.json`.

    Attributes:
        seed: seed of environments, networks and actions, and of the draw from a dataset.
        device: device of the networks: `cpu`, `cuda`, or `auto` (CUDA where there is one).
        n_threads: number of CPU threads for MuJoCo and torch; None: measured.
    """

    seed: Seed
    device: str
    n_threads: Threads | None

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not isinstance(value, Path):
                object.__setattr__(self, name, typed(hint, value, name))
        super().__post_init__()


@dataclass(frozen=True)
class Loaded:
    """What `load` found in a folder."""

    policy: Policy
    state: dict[str, Any]
    facts: dict[str, Any]
    config: dict[str, Any]


class Agent:
    """A policy, and all that it takes to train it in an environment.

    Users make `BC`, and `GAIL`, `VIME`, `TRPO` and `PPO`, which are `RewardAgent`s. Behind each is a
    `rlgen.train.Loop`.

    Attributes:
        env: what it was made for; None: nothing that it can be tried in.
        env_id: its name.
        settings: of the learner, and of what it learns from.
        arguments: what else it was made with.
        facts: numbers of the training, by name, which stand in a run's summary.
        expert_return: the mean return that is a score of 1; None without an expert.
    """

    columns: ClassVar[Mapping[str, str]]
    """Metrics to display, by name, with short titles."""

    def __init__(
        self, env: Any, settings: Settings, arguments: Arguments, env_kwargs: Mapping[str, Any] | None
    ) -> None:
        self.env, self.env_kwargs, self.arguments = env, env_kwargs, arguments
        self._envs = env if isinstance(env, gym.vector.VectorEnv) else None
        if self._envs is not None:
            require_same_step(self._envs)
            if env_kwargs is not None:
                raise UsageError("env_kwargs has no effect on a vector environment")
        elif env is not None:
            maker(env, env_kwargs or {})  # what can't be made is told at once
            if isinstance(env, str):
                gym.spec(env)
        self.env_id = "" if env is None else environment_name(env)
        self.settings = self._fitting(settings)
        self.facts: dict[str, Any] = {}
        self.expert_return: float | None = None
        self._training: Loop | None = None
        self._loaded: Loaded | None = None
        self._rows: list[Mapping[str, Any]] = []
        self._actor: tuple[int, Actor] | None = None

    # What kinds of agents differ in.

    def _build(self) -> Loop:
        """The loop from its first step on, or from a loaded state."""
        raise NotImplementedError

    def _fitting(self, settings: S) -> S:
        """Settings for as many environments as were passed."""
        return settings

    @property
    def reward(self) -> str | None:
        """The reward's name in a run's summary; None of what learns from none."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The agent's, in a run's folder and summary."""
        raise NotImplementedError

    @property
    def codes(self) -> Codes:
        """The codes that the policy is given beside observations; none by default."""
        return Codes()

    def settings_for(self, total_timesteps: int | None) -> Settings:
        """The settings for so many steps (default: as many as they say)."""
        return self.settings.for_steps(total_timesteps)

    def on_iteration(self, iteration: Iteration) -> None:
        """Called after each iteration; it may change `facts`."""

    # What users call.

    @property
    def training(self) -> Loop:
        """The loop, made when it is first needed; iterating it trains too, see `rlgen.train`."""
        if self._training is None:
            self._training = self._build()
            if self._loaded is not None:
                try:
                    self._training.load_state_dict(self._loaded.state)
                except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                    self._training = None
                    raise CheckpointError(f"what was saved doesn't fit {self.env_id} ({error})") from None
        return self._training

    @property
    def policy(self) -> Policy:
        """The policy as it is now."""
        return self._loaded.policy if self._training is None and self._loaded is not None else self.training.policy

    @property
    def num_timesteps(self) -> int:
        """Steps done: of the environment, or of BC's gradient."""
        if self._training is None:
            return 0 if self._loaded is None else int(self._loaded.facts["steps"])
        return self._training.steps

    @property
    def metrics(self) -> pd.DataFrame:
        """One row an iteration, with the columns of a run's `metrics.csv`."""
        import pandas as pd

        return pd.DataFrame(self._rows)

    def learn(
        self,
        total_timesteps: float | None = None,
        *,
        run_dir: str | Path | None = None,
        eval_episodes: int = 50,
        eval_every: float | None = None,
        callback: Callable[[Iteration], Any] | None = None,
        progress: bool = True,
        **unknown: Never,
    ) -> Self:
        """Train.

        Ctrl-C ends training after the iteration in progress and raises KeyboardInterrupt; the agent can be evaluated,
        saved and trained on as after any other.

        Args:
            total_timesteps: environment steps (BC: gradient steps), rounded up to whole iterations (default: the
                settings'). An agent that has learned does so many more, beginning again with steps of full size.
            run_dir: write a run as the commands do to this new folder: configuration, metrics, TensorBoard events,
                checkpoints, and the evaluation of the last policy (default: write nothing).
            eval_episodes: number of episodes of that evaluation.
            eval_every: with `run_dir`, also evaluate the deterministic policy in 10 episodes after each so many steps,
                to `evaluations.csv`, and keep the agent of that time in a folder `steps/<steps>` (default: never).
            callback: called after each iteration; training ends where it returns False.
            progress: print it.
            unknown: none; a misspelt argument is told with the nearest.

        Returns:
            The agent.

        Raises:
            FileExistsError: `run_dir` holds a run already.
            FloatingPointError: an observation, a reward or a loss isn't finite.
            UsageError: an argument can't be used, or `run_dir` is given to an agent that has learned.
        """
        if unknown:
            known = [name for name in inspect.signature(Agent.learn).parameters if name not in ("self", "unknown")]
            raise UsageError(f"learn: {next(iter(unknown))}: no such argument; {nearest(next(iter(unknown)), known)}")
        every = None if eval_every is None else whole_number("eval_every", eval_every)
        if every is not None and run_dir is None:
            raise UsageError("eval_every needs run_dir, where the evaluations go")
        if not (callback is None or callable(callback)):
            raise UsageError(f"callback must be a function of an iteration; got {callback!r}")
        steps = None if total_timesteps is None else whole_number("total_timesteps", total_timesteps)
        begun = self.num_timesteps > 0 or self._loaded is not None
        if not begun:
            before, self.settings = self.settings, self._fitting(self.settings_for(steps))
            if self.settings.for_steps(before.total_timesteps) != before:
                self._training = None  # what was looked at had other settings
            elif self._training is not None:
                self._training.extend(self.settings.total_timesteps)
        threads = torch.get_num_threads()
        try:
            if run_dir is not None:
                folder = folder_path("run_dir", run_dir)
                options = RunOptions(run_dir=folder, eval_episodes=eval_episodes, eval_every=every)
                if self.run(options, callback=callback, progress=progress).interrupted:
                    raise KeyboardInterrupt
                return self
            keep_freed_memory()
            torch.set_num_threads(self.arguments.n_threads or choose_threads())
            training = self.training
            if begun:
                training.extend(steps or self.settings.total_timesteps)
            signals, display = Signals("ends after this iteration"), Display(training.total, self.columns, progress)
            with signals, display:
                for iteration in training:
                    display(row_of(iteration))
                    ended = self._note(iteration, callback) is False
                    if signals.received:
                        raise KeyboardInterrupt
                    if ended:
                        break
            return self
        finally:
            torch.set_num_threads(threads)

    def run(
        self,
        options: RunOptions,
        command: Any = None,
        callback: Callable[[Iteration], Any] | None = None,
        progress: bool = True,
    ) -> Result:
        """Train and evaluate in a folder, see `rlgen.experiment.run`; what a command does.

        Args:
            options: the folder's; seed, device, threads and the environment's arguments are the agent's.
            command: the command's arguments, for `config.json`.
            callback: as for `learn`.
            progress: likewise.
        """
        if self._envs is not None:
            raise UsageError("run_dir needs an environment that can be made again; pass an id or a function")
        if self.num_timesteps > 0 or self._loaded is not None:
            raise UsageError("run_dir holds a run from its first step on; make a new agent, or leave it out")
        arguments = self.arguments
        return run(
            replace(
                options,
                seed=arguments.seed,
                device=arguments.device,
                threads=arguments.n_threads,
                env_kwargs=None if self.env_kwargs is None else dict(self.env_kwargs),
            ),
            env=None if self.env is None else self._coded(self.env),
            env_id=self.env_id,
            make_training=lambda: self.training,
            algorithm=self.name,
            reward=self.reward,
            name=self.name,
            config={"arguments": command, **self._config()},
            columns=self.columns,
            expert_return=self.expert_return,
            facts=self.facts,
            on_iteration=lambda iteration: self._note(iteration, callback),
            progress=progress,
        )

    def predict(
        self,
        observation: Any,
        state: None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = True,
        *,
        code: Any = None,
    ) -> tuple[npt.NDArray[Any], None]:
        """SB3's interface: the policy's actions at observations, see `rlgen.Actor.predict`; its mode by default.

        Where the policy is given codes, an observation is `{"code": ..., "observation": ...}`, or what the environment
        gives and the `code` beside it.

        Raises:
            UsageError: the policy has no such code.
        """
        if (
            code is None
            and self.codes
            and isinstance(observation, Mapping)
            and observation.keys() == {"code", "observation"}
        ):
            with contextlib.suppress(UsageError):  # of several observations, there are several
                self.codes.told(observation["code"])
                code, observation = observation["code"], observation["observation"]
        if code is not None:
            observation = self._given(code, observation)
        if self._actor is None or self._actor[0] != self.num_timesteps:
            rng = np.random.default_rng(self.arguments.seed) if self._actor is None else self._actor[1].rng
            self._actor = self.num_timesteps, Actor(self.policy, rng)
        return self._actor[1].predict(observation, state, episode_start, deterministic)

    def evaluate(
        self,
        n_episodes: int = 50,
        *,
        deterministic: bool = True,
        seed: int | None = None,
        env: Environment | None = None,
        code: Any = None,
    ) -> Evaluation:
        """The environment's own returns of the policy in fresh episodes, and its score where there is an expert.

        Args:
            n_episodes: number of episodes.
            deterministic: act by the mode.
            seed: of the episodes (default: the agent's and 10,000, as in a run's last evaluation).
            env: another environment, where there is no score (default: the agent's).
            code: the policy's in all episodes, where it is given codes (default: each episode's is drawn).

        Raises:
            UsageError: the agent was made with a vector environment that isn't of one spec, or loaded from a folder
                that doesn't tell its environment, so `env` is needed; or the policy has no such code.
        """
        n_episodes = whole_number("n_episodes", n_episodes)
        options: dict[str, Any] = {"n_threads": self.arguments.n_threads}
        seed = self.arguments.seed + 10_000 if seed is None else typed(int, seed, "seed")
        actor = Actor(self.policy, np.random.default_rng(seed))
        if env is not None:
            return evaluate(actor, self._coded(env, code), n_episodes, seed, deterministic, **options)
        options |= {"env_kwargs": self.env_kwargs}
        env = self._coded(self._fresh("evaluate"), code)
        found = evaluate(actor, env, n_episodes, seed, deterministic, **options)
        if self.expert_return is None:
            return found
        random = RandomActor(self.policy.action_space, self.arguments.seed)
        zero = evaluate(random, env, n_episodes, seed, False, **options).mean
        return replace(found, random=zero, expert=self.expert_return)

    def film(
        self, path: str | Path, *, seed: int | None = None, env: Environment | None = None, code: Any = None
    ) -> float:
        """Write one deterministic episode as a film; it needs imageio-ffmpeg (`pip install "rlgen[video]"`).

        Args:
            path: the file, an MP4.
            seed: of the episode (default: the agent's and 10,000; the first that `evaluate` runs).
            env: another environment (default: the agent's).
            code: the policy's, where it is given codes (default: drawn); "each" films all categorical codes side by
                side, from the same beginning.

        Returns:
            The episode's return; of several the mean.

        Raises:
            UsageError: the environment doesn't render, see `rlgen.video.camera`.
        """
        seed = self.arguments.seed + 10_000 if seed is None else typed(int, seed, "seed")
        if folder_path("path", path).suffix != ".mp4":
            raise UsageError(f"path must end in .mp4; got {path}")
        kwargs = None if env is not None else self.env_kwargs
        each = isinstance(code, str) and code == "each" and bool(self.codes)
        filmed = self._coded(env if env is not None else self._fresh("film"), None if each else code)
        shoot = camera_of_codes(filmed, kwargs) if each and isinstance(filmed, Coded) else camera(filmed, kwargs)
        film = shoot(Actor(self.policy), seed)
        write_mp4(folder_path("path", path), film.frames, film.frames_per_second)
        return film.total_reward

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write all that training depends on, and the metrics, to a folder of its own; `rlgen.load` reads it.

        Args:
            path: the folder; JSON, CSV and safetensors go there, no pickles.
            overwrite: replace an agent that was saved there.

        Raises:
            FileExistsError: the folder holds a run, or an agent that isn't to be replaced.
        """
        folder = folder_path("path", path)
        if (folder / "tensorboard").exists() or ((folder / "config.json").exists() and not overwrite):
            raise FileExistsError(f"{folder} holds a run, or an agent (overwrite=True); choose another folder")
        if self._training is None and self._loaded is not None:
            state: Mapping[str, Any] = self._loaded.state
            facts, config = self._loaded.facts, self._loaded.config
        else:
            config = plain(provenance() | self._config())
            facts = checkpoint_facts(self.training, self.env_id, config["env_kwargs"], self.facts, config)
            state = self.training.state_dict()
        metrics = self.metrics.to_csv(index=False).encode()
        write_json(folder / "config.json", config)
        write_bytes(folder / "metrics.csv", metrics if self._rows else b"")
        save_checkpoint(folder, state, facts)

    def close(self) -> None:
        """Close the environments, if there are any."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.env_id!r}, {self.name}, {self.num_timesteps:,} steps done)"

    def _restore(self, facts: dict[str, Any]) -> None:
        """Go on with the facts of a folder."""
        self.facts = facts

    def _coded(self, env: Any, code: Any = None) -> Environment:
        """An environment with the codes that the policy is given, or with one of them."""
        if not self.codes and code is not None:
            raise UsageError("code has no effect: the agent was made without codes")
        return Coded(env, self.codes, None if code is None else self.codes.told(code)) if self.codes else env

    def _given(self, code: Any, observation: Any) -> npt.NDArray[Any]:
        """An observation, or several stacked, as the policy sees them with a code."""
        self._coded(None, code)
        space = self.policy.observation_space
        rows, single = flat_box(space.original["observation"]).rows(observation)  # type: ignore[index]
        given = np.concatenate((np.tile(self.codes.row(code), (len(rows), 1)), rows), axis=1, dtype=space.dtype)
        return given[0] if single else given

    def _fresh(self, caller: str) -> Environment:
        """What fresh environments are made of."""
        env = self.env
        if self._envs is not None:  # a wrapper around several may be anything
            env = _single(self._envs.spec) if self._envs is self._envs.unwrapped else None
        if env is None:
            raise UsageError(f"{caller} needs fresh environments; pass env, an id or a function that makes one")
        return env  # type: ignore[no-any-return]

    def _config(self) -> dict[str, Any]:
        try:
            env_kwargs, told = json.loads(json.dumps(self.env_kwargs)), isinstance(self.env, str)
        except (TypeError, ValueError):
            env_kwargs, told = None, False
        agent = {
            "kind": type(self).__name__,
            "arguments": without_added(self.arguments),
            "expert_return": self.expert_return,
            "told_by_id": told,
        }
        if self.codes:
            agent["codes"] = {field.name: getattr(self.codes, field.name) for field in fields(Codes)}
        settings = without_added(self.settings)
        return {"env_id": self.env_id, "env_kwargs": env_kwargs, "settings": settings, "agent": agent}

    def _note(self, iteration: Iteration, callback: Callable[[Iteration], Any] | None) -> Any:
        self._rows.append(row_of(iteration))
        self.on_iteration(iteration)
        return None if callback is None else callback(iteration)


def _single(spec: EnvSpec | None) -> EnvSpec | None:
    """The spec of a single environment of several that `gymnasium.make_vec` made."""
    if spec is None:
        return None
    of_several = ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers")
    spec = copy.deepcopy(spec)
    spec.kwargs = {name: value for name, value in spec.kwargs.items() if name not in of_several}
    return spec


def origin(source: str | Path | Agent) -> str | None:
    """What an agent or a run is, whatever its seed: its kind, and a digest of data, settings and steps.

    None of a folder that isn't a run's, such as a dataset's.
    """
    steps: int | None
    if isinstance(source, Agent):
        config = source._config() if source._loaded is None else source._loaded.config
        steps = source.num_timesteps
    elif (Path(source) / FILE).exists() and (Path(source) / "config.json").exists():
        config, steps = read_config(Path(source)), load_checkpoint(source)[0].get("steps")
    else:
        return None
    config = plain(config)
    if not isinstance(agent := config.get("agent"), dict):
        return None
    apart = {"expert", *ORIGINS, *(field.name for field in fields(Arguments))}
    told = {name: value for name, value in dict(agent["arguments"]).items() if name not in apart}
    content = [told, steps, *(config.get(name) for name in ("settings", "demonstrations", *ORIGINS))]
    return f"{agent['kind']} ({sha256(canonical_json(content))[:6]})"


def one_of(name: str, value: str, there: Iterable[str]) -> None:
    """Refuse a value that isn't there, by a UsageError with the nearest."""
    if value not in there:
        near = difflib.get_close_matches(str(value), there, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"{name} must be one of {', '.join(there)}; got {value}{hint}")


def typed(hint: Any, value: Any, name: str) -> Any:
    """A value of a type, NumPy's numbers as Python's, or a UsageError."""
    try:
        return from_json(hint, value, name)
    except CheckpointError as error:
        raise UsageError(str(error)) from None


def whole_number(name: str, value: Any) -> int:
    """A positive whole number, also as 1e6."""
    number = value if isinstance(value, int | float | np.number) and not isinstance(value, bool) else 0
    if not (1 <= number < 1e15 and number == int(number)):
        raise UsageError(f"{name} must be a positive whole number; got {value!r}")
    return int(number)


def folder_path(name: str, value: Any) -> Path:
    """A path from a string or a path; a UsageError of anything else."""
    if not isinstance(value, str | Path):
        raise UsageError(f"{name} must be a folder's path; got {value!r}")
    return Path(value)


def told_settings(
    preset: S, told: Told | None, env_id: str, algo: str, values: Mapping[str, Any], agent: type[Agent] = Agent
) -> S:
    """A preset with the settings that a user tells: in whole or in part, then by name; `agent` is what is made."""
    settings: Any = preset
    if isinstance(told, Settings):
        if type(told) is not type(preset):
            raise UsageError(f"settings must be {type(preset).__name__}; got {type(told).__name__}")
        settings = told
    elif isinstance(told, Mapping):
        settings = override(preset, told, "settings: ")
    elif told is not None:
        file = told if isinstance(told, SettingsFile) else read_settings(folder_path("settings", told))
        if file is not told and not file.table(env_id):
            warnings.warn(file.describe(env_id), stacklevel=5)
        settings = file.apply(preset, env_id, algo)
    return with_values(settings, values, [name for name in inspect.signature(agent).parameters if name != "values"])
