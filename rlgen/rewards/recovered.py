"""The reward that a run of AIRL recovered, to train other policies on."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from rlgen.checkpoint import load_checkpoint
from rlgen.errors import CheckpointError
from rlgen.nn.mlp import mlp
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.types import Metrics, Transitions


class RecoveredReward(nn.Module):
    """g(s) of an AIRL run, without its shaping and its likelihoods: what carries over to other dynamics.

    Its constant is arbitrary (Fu et al. 2018, theorem 5.1): where an episode can end early, living on may be worth more
    or less than to the expert. It learns nothing.

    Args:
        run_dir: of `rlgen gail --reward-model airl`; nothing in it is executed.

    Raises:
        CheckpointError: the folder holds no such run, or a damaged one. The discriminator of GAIL is no such reward: it
            tells the expert from the policies it was trained beside, and ends undecided.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        _, state = load_checkpoint(run_dir)
        try:
            config = json.loads((run_dir / "config.json").read_text())
            symlog = config["settings"]["symlog"]
            is_airl = config["arguments"]["reward_model"] == "airl"
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{run_dir}/config.json: not of a run of gail ({type(error).__name__})") from None
        if not is_airl or not isinstance(symlog, bool):
            raise CheckpointError(f"{run_dir}: only a run of rlgen gail --reward-model airl holds a reward")
        kept = state["reward_model"]
        prefix = "discriminator.network.g."
        of_g = {name.removeprefix(prefix): x for name, x in kept.items() if name.startswith(prefix)}
        biases = sorted((name for name in of_g if name.endswith(".bias")), key=lambda name: int(name.split(".")[0]))
        sizes = [len(of_g[name]) for name in biases]
        try:
            n_obs = len(kept["discriminator.of_obs.mean"])
            self.of_obs = RunningNormalizer(n_obs, floor=1e-2, symlog=symlog)
            self.g = mlp(n_obs, sizes[:-1], 1, output_gain=1.0)
            self.of_obs.load_state_dict({x: kept[f"discriminator.of_obs.{x}"] for x in ("mean", "var", "count")})
            self.g.load_state_dict(of_g)
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{run_dir}: its checkpoint holds no reward of states ({error})") from None
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, transitions: Transitions) -> Tensor:
        """g(s), `[*B]`.

        Raises:
            CheckpointError: the observations are of another size than the run's.
        """
        if transitions.obs.shape[-1] != len(self.of_obs.mean):
            raise CheckpointError(
                f"the reward is of {len(self.of_obs.mean)} observations, not {transitions.obs.shape[-1]}"
            )
        return self.g(self.of_obs(transitions.obs)).squeeze(-1)

    def update(self, transitions: Transitions) -> Metrics:
        """Nothing to learn."""
        return {}
