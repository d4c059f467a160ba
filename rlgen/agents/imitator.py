"""What agents share that learn from an expert's demonstrations."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlgen.agents.agent import Agent, Arguments, folder_path
from rlgen.data.demonstrations import Demonstrations, load_demonstrations, open_dataset, with_kwargs
from rlgen.envs import make_vec
from rlgen.envs.make import told_kwargs
from rlgen.errors import DemonstrationError, UsageError
from rlgen.ranges import Count

FEW = 4
"""Trajectories, by default, of a dataset that was recorded."""


@dataclass(frozen=True)
class ExpertArguments(Arguments):
    """Those of agents that learn from demonstrations.

    Attributes:
        expert: the folder of datasets; None: demonstrations were passed.
        n_trajectories: number of expert trajectories to draw; None: by the dataset, see `Imitator`.
        subsample: keep one state-action pair in this many; None: every pair in the dataset.
        include_failed: also draw from the episodes in which the expert failed.
    """

    expert: Path | None
    n_trajectories: Count | None
    subsample: Count | None
    include_failed: bool


def drawn_from(
    expert: str | Path | Demonstrations, n_trajectories: int | None, subsample: int | None, include_failed: bool
) -> dict[str, Any]:
    """The fields of `ExpertArguments` from what a user tells."""
    passed = isinstance(expert, Demonstrations)
    if passed and (n_trajectories is not None or subsample is not None or include_failed):
        raise UsageError("n_trajectories, subsample and include_failed draw from a folder, not from demonstrations")
    return {
        "expert": None if passed else folder_path("expert", expert),
        "n_trajectories": n_trajectories,
        "subsample": subsample,
        "include_failed": include_failed,
    }


class Imitator(Agent):
    """An agent that learns from an expert's demonstrations.

    By default it draws four trajectories of a dataset that rlgen recorded, as benchmarks do, and all of one that was
    converted, from a log or from another package's file: whoever brings data means all of them.
    """

    arguments: ExpertArguments
    _demonstrations: Demonstrations | None = None

    def _imitate(self, expert: str | Path | Demonstrations) -> dict[str, Any]:
        """Have the demonstrations at hand; what a summary tells of them."""
        self._demonstrations = expert if isinstance(expert, Demonstrations) else None
        drawn = self.demonstrations
        if isinstance(self.env, str) and drawn.env_id != self.env:
            warnings.warn(f"the demonstrations are of {drawn.env_id}, the environment is {self.env}", stacklevel=4)
        elif self.env is not None and drawn.env_kwargs is not None:
            here = told_kwargs(self.env, self.env_kwargs)
            if here not in (None, drawn.env_kwargs):
                theirs, ours = (with_kwargs(self.env_id, kwargs) for kwargs in (drawn.env_kwargs, here))
                warnings.warn(
                    f"the demonstrations are of {theirs}, the environment is {ours}: see env_kwargs", stacklevel=4
                )
        self.expert_return = drawn.dataset_return_mean
        return {
            "n_trajectories": len(drawn.episode_returns),
            "subsample": drawn.subsample,
            "demonstration_returns": drawn.episode_returns,
        }

    @property
    def demonstrations(self) -> Demonstrations:
        """The expert's pairs that were drawn."""
        if self._demonstrations is None:
            told = self.arguments
            if told.expert is None:
                raise UsageError("the agent was made with demonstrations that its folder lacks; pass expert to load")
            n_trajectories = told.n_trajectories
            if n_trajectories is None and "source" not in open_dataset(told.expert, self.env_id)[1]:
                n_trajectories = FEW
            self._demonstrations = load_demonstrations(
                told.expert,
                self.env_id,
                n_trajectories,
                told.subsample,
                seed=told.seed,
                include_failed=told.include_failed,
            )
            if self._loaded is not None and self._loaded.config.get("demonstrations") != self._demonstrations.sha256:
                raise DemonstrationError(f"{self._demonstrations.path}: not the dataset that the agent was trained on")
        return self._demonstrations

    def _config(self) -> dict[str, Any]:
        drawn = self.demonstrations
        kept = super()._config() | {
            "demonstrations": drawn.sha256,
            "subsample": drawn.subsample,
            "n_trajectories": len(drawn.episode_returns),
        }
        if drawn.names:  # for whoever exports the policy
            kept["columns"] = {part: list(names) for part, names in self._fitted().names.items()}
        return kept

    def _fitted(self) -> Demonstrations:
        """The demonstrations with observations in the order of the environment, where there is one."""
        if self.env is None:
            return self.demonstrations
        envs = self._envs or make_vec(self.env, 1, env_kwargs=self.env_kwargs)
        fitted = self.demonstrations.fitted_to(envs)
        if self._envs is None:
            envs.close()
        return fitted
