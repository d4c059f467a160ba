"""Behaviour cloning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import torch

from rlgen.agents.agent import AnyEnvironment, Told, told_settings
from rlgen.agents.imitator import ExpertArguments, Imitator, drawn_from
from rlgen.cloning import Cloning, CloningSettings
from rlgen.data.demonstrations import Demonstrations, open_dataset
from rlgen.envs.make import environment_name
from rlgen.experiment import choose_device
from rlgen.nn.policy import Policy


class BC(Imitator):
    """Clone an expert's behaviour: maximum likelihood on its state-action pairs.

        bc = rlgen.BC("HalfCheetah-v4", expert="expert_data")
        bc.learn()
        print(bc.evaluate())

    Steps are gradient steps. No environment is stepped in training, and none is needed: of demonstrations of an
    environment that isn't there the policy can act and be saved and exported all the same.

    Args:
        env: an id or what else `rlgen.make_vec` takes, or a vector environment; None: the id of the dataset, if it is
            registered.
        expert: a folder with a dataset for each environment, the folder of one dataset, or demonstrations.
        n_trajectories: number of expert trajectories to draw from a folder (default: 4 of a dataset that rlgen
            recorded, all of one that was converted).
        subsample: keep one state-action pair in this many (default: every pair in the dataset).
        include_failed: also draw from the episodes in which the expert failed.
        settings: what replaces the defaults, see `Told`.
        seed: seed of the network and the minibatches, and of the draw from the dataset.
        device: device of the network: `cpu`, `cuda`, or `auto` (CUDA where there is one).
        n_threads: number of CPU threads for torch, and for MuJoCo in an evaluation (default: measured).
        env_kwargs: the environment's constructor arguments.
        values: settings by name, such as `n_steps=5000, weight_decay=1e-3`; see `rlgen.settings.with_values`.

    Raises:
        DemonstrationError: no such dataset, a damaged one, or one of other spaces.
        UsageError: an argument that can't be used; a misspelt one is told with the nearest.
        gymnasium.error.NameNotFound: an unknown id, with near matches.
    """

    settings: CloningSettings
    training: Cloning
    columns: ClassVar[Mapping[str, str]] = {"training_loss": "loss", "validation_loss": "held out"}

    def __init__(
        self,
        env: AnyEnvironment | None,
        expert: str | Path | Demonstrations,
        *,
        n_trajectories: int | None = None,
        subsample: int | None = None,
        include_failed: bool = False,
        settings: Told | None = None,
        seed: int = 0,
        device: str = "auto",
        n_threads: int | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> None:
        arguments = ExpertArguments(
            seed=seed,
            device=str(device),
            n_threads=n_threads,
            **drawn_from(expert, n_trajectories, subsample, include_failed),
        )
        passed = isinstance(expert, Demonstrations)
        env_id = environment_name(env) if env is not None else recorded_in(expert)
        if env is None and env_id in gym.registry:
            env = env_id
        told = told_settings(CloningSettings(), settings, env_id, self.name, values, BC)
        super().__init__(env, told, arguments, env_kwargs)
        self.env_id = env_id
        self.facts = self._imitate(expert)
        if env is None and not passed:
            self.expert_return = None  # a score needs random actions' returns

    @property
    def name(self) -> str:
        """`bc`."""
        return "bc"

    @property
    def reward(self) -> None:
        """It learns from none."""

    def _build(self) -> Cloning:
        settings, drawn = self.settings, self._fitted()
        drawn.require_actions("behaviour cloning")
        spaces = drawn.observation_space, drawn.action_space
        device = choose_device(self.arguments.device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.arguments.seed)
            policy = Policy(*spaces, settings.net_arch, settings.log_std_init).to(device)
            return Cloning(policy, drawn.transitions, settings.optimizer)


def recorded_in(expert: str | Path | Demonstrations) -> str:
    """The environment that demonstrations were recorded in; errors as for `rlgen.load_demonstrations`."""
    if isinstance(expert, Demonstrations):
        return expert.env_id
    return str(open_dataset(Path(expert), None)[1]["env_id"])
