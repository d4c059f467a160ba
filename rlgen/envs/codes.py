"""Codes: a latent variable beside the observation, drawn anew for each episode, which a policy acts by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from rlgen.envs.batched import BatchedEnv
from rlgen.envs.tensors import require_arrays
from rlgen.errors import UsageError
from rlgen.ranges import Checked, Range

Array = npt.NDArray[Any]
Parts = tuple[Any, ...]
"""A code: the index of the categorical one, then the array of the continuous ones, whichever there are."""


@dataclass(frozen=True)
class Codes(Checked):
    """What a code may be; true if there is any.

    Attributes:
        codes: number of values of a categorical code, all equally likely; 0: none.
        continuous_codes: number of continuous codes, each uniform in [-1, 1].

    Raises:
        UsageError: a negative number, or a categorical code of one value.
    """

    codes: Annotated[int, Range(0, 1000)] = 0
    continuous_codes: Annotated[int, Range(0, 1000)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.codes == 1:
            raise UsageError("codes must be 0 (none) or at least 2; got 1")

    def __bool__(self) -> bool:
        return self.width > 0

    @property
    def width(self) -> int:
        """Columns of a code in flat observations, where it comes first: one-hot, then the continuous ones."""
        return self.codes + self.continuous_codes

    @property
    def space(self) -> gym.Space[Any]:
        """Discrete, a Box, or a Tuple of both."""
        parts: list[gym.Space[Any]] = []
        if self.codes:
            parts.append(spaces.Discrete(self.codes))
        if self.continuous_codes:
            parts.append(spaces.Box(-1, 1, (self.continuous_codes,), np.float32))
        return parts[0] if len(parts) == 1 else spaces.Tuple(parts)

    def draw(self, rng: np.random.Generator) -> Parts:
        """A code from its prior."""
        parts: list[Any] = []
        if self.codes:
            parts.append(rng.integers(self.codes))
        if self.continuous_codes:
            parts.append(rng.uniform(-1, 1, self.continuous_codes).astype(np.float32))
        return tuple(parts)

    def moments(self) -> tuple[Array, Array]:
        """Mean and variance of each column under the prior, `[width]` each."""
        share = np.full(self.codes, 1 / max(self.codes, 1))
        none = np.zeros(self.continuous_codes)
        return np.concatenate((share, none)), np.concatenate((share * (1 - share), none + 1 / 3))

    def told(self, code: Any) -> Parts:
        """A code from what a person tells: a number, or a sequence of the index and then the continuous ones.

        Raises:
            UsageError: it is none, and the message says what one is.
        """
        try:
            flat = [np.ravel(np.asarray(part, np.float64)) for part in (code if isinstance(code, tuple) else (code,))]
            numbers = np.concatenate(flat)
        except (TypeError, ValueError):
            numbers = np.zeros(0)
        n, index = (self.codes > 0) + self.continuous_codes, numbers[: self.codes > 0]
        values = numbers[len(index) :]
        if len(numbers) != n or not np.isin(index, np.arange(self.codes)).all() or not (abs(values) <= 1).all():
            index_told = f"a whole number from 0 to {self.codes - 1}" * (self.codes > 0)
            values_told = f"{self.continuous_codes} numbers from -1 to 1" * (self.continuous_codes > 0)
            got = " ".join(f"{x:g}" for x in numbers) or ("none" if np.size(code) == 0 else repr(code))
            raise UsageError(f"code must be {', then '.join(filter(None, (index_told, values_told)))}; got {got}")
        return (*index.astype(np.int64), *([values.astype(np.float32)] if self.continuous_codes else []))

    def row(self, code: Any) -> Array:
        """The columns `[width]` float32 of a code in flat observations; errors as for `told`."""
        parts = self.told(code)
        index = [np.arange(self.codes) == parts[0]] if self.codes else []
        return np.concatenate((*index, *parts[len(index) :]), dtype=np.float32)


@dataclass(frozen=True)
class Coded:
    """An environment that is given codes, for `rlgen.make_vec` and whatever takes what that takes.

    Attributes:
        env: an id, or what else `rlgen.make_vec` takes.
        codes: what is drawn.
        code: the one code of all episodes; None: each episode's is drawn.
    """

    env: Any
    codes: Codes
    code: Any = None


class CodedEnv(gym.vector.VectorWrapper[Any, Any, Any, Any, Any]):
    """A vector environment whose observations are `{"code": c, "observation": ...}`, c being the same for an episode.

    Each environment draws its codes from a stream of its own, seeded with the environment, so that the environments
    themselves do what they do without. A true final observation has the code of the episode that it ends.

    Attributes:
        codes: what is drawn.

    Args:
        env: same-step autoreset.
        codes: see there.
        code: see `Coded`.

    Raises:
        UsageError: such a code there is not, or there are none.
    """

    def __init__(self, env: gym.vector.VectorEnv[Any, Any, Any], codes: Codes, code: Any = None) -> None:
        super().__init__(env)
        require_arrays(env, "CodedEnv")
        if not codes:
            raise UsageError("there are no codes to draw; tell their number by codes or continuous_codes")
        self.codes = codes
        self._fixed = None if code is None else codes.told(code)
        self._generators = [np.random.default_rng() for _ in range(env.num_envs)]
        self._drawn: list[Parts] = [self._draw(i) for i in range(env.num_envs)]
        self.single_observation_space = spaces.Dict({"code": codes.space, "observation": env.single_observation_space})
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environments' own; each that is reset draws a code, from the start of its stream if it is seeded."""
        obs, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        for i in np.flatnonzero(mask).tolist():
            if seeds is not None and (told := seeds[i]) is not None:
                self._generators[i] = stream(int(told))
            self._drawn[i] = self._draw(i)
        return self._with_codes(obs), infos

    def step(self, actions: Any) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """As the environments' own; an environment whose episode ends draws the next one's code."""
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        done = np.flatnonzero(terminated | truncated).tolist()
        if done:
            final = np.full(self.num_envs, None, object)
            for i in done:
                final[i] = {"code": self._element(self._drawn[i]), "observation": infos["final_obs"][i]}
                self._drawn[i] = self._draw(i)
            infos = infos | {"final_obs": final}
        return self._with_codes(obs), rewards, terminated, truncated, infos

    def state_dict(self) -> dict[str, Any]:
        """What batched environments, their codes and the streams of codes need to go on exactly."""
        return {
            "envs": self.env.state_dict(),  # type: ignore[attr-defined]
            "generators": [rng.bit_generator.state for rng in self._generators],
            "codes": {str(k): np.stack(part) for k, part in enumerate(zip(*self._drawn, strict=True))},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of as many environments of the same task and codes."""
        self.env.load_state_dict(state["envs"])  # type: ignore[attr-defined]
        for rng, kept in zip(self._generators, state["generators"], strict=True):
            rng.bit_generator.state = kept
        self._drawn = list(zip(*(np.array(state["codes"][k]) for k in sorted(state["codes"])), strict=True))

    def _draw(self, i: int) -> Parts:
        return self.codes.draw(self._generators[i]) if self._fixed is None else self._fixed

    def _with_codes(self, obs: Any) -> dict[str, Any]:
        parts = tuple(np.stack(part) for part in zip(*self._drawn, strict=True))
        return {"code": self._element(parts), "observation": obs}

    def _element(self, parts: Parts) -> Any:
        """One part alone, or a tuple, as the code's space has it."""
        return parts[0] if len(parts) == 1 else parts


def stream(seed: int) -> np.random.Generator:
    """What an environment of this seed draws codes from: neither its own stream nor those of a policy's noise."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))


def batch_of(envs: gym.vector.VectorEnv[Any, Any, Any]) -> BatchedEnv | None:
    """The batch of ours behind vector environments, with codes or without, whose state can be kept.

    None of environments of other packages, and of wrappers, which may have a state of their own.
    """
    inner = envs.env if isinstance(envs, CodedEnv) else envs
    return inner if isinstance(inner, BatchedEnv) else None
