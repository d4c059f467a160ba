"""The reward that AIRL leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from rlgen.checkpoint import load_checkpoint
from rlgen.errors import CheckpointError
from rlgen.files import read_json
from rlgen.nn.discriminator import FLOOR
from rlgen.nn.mlp import mlp
from rlgen.nn.normalizer import RunningNormalizer
from rlgen.rewards.recovered import RecoveredReward
from rlgen.run_log import check_unchanged


def recovered_reward(run_dir: Path) -> RecoveredReward:
    """The reward g(s) that a run of `rlgen gail --reward-model airl` recovered; nothing in its folder is executed.

    Raises:
        CheckpointError: the folder holds no such run, or a damaged one. The discriminator of GAIL is no such reward: it
            tells the expert from the policies it was trained beside, and ends undecided.
    """
    facts, state = load_checkpoint(run_dir)
    try:
        wanted = {"settings": {"symlog": bool}, "agent": {"arguments": {"reward_model": str}}}
        config = read_json(run_dir / "config.json", wanted, links=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{run_dir}: only a run of rlgen gail holds a reward ({error})") from None
    check_unchanged(run_dir, config, facts.get("config", ""))
    if config["agent"]["arguments"]["reward_model"] != "airl":
        raise CheckpointError(f"{run_dir}: only a run of rlgen gail --reward-model airl holds a reward")

    def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}

    try:
        # Beside the task's reward it is a part of a sum.
        of_airl = part(state["reward_model"], "imitation.") or state["reward_model"]
        of_g, statistics = (part(of_airl, f"discriminator.{name}.") for name in ("network.g", "of_obs"))
        biases = sorted((name for name in of_g if name.endswith(".bias")), key=lambda name: int(name.split(".")[0]))
        n_obs = len(statistics["mean"])
        spread = RunningNormalizer(n_obs)
        spread.load_state_dict(part(state["policy"], "normalizer."))
        of_obs = RunningNormalizer(n_obs, floor=FLOOR, spread=spread, symlog=config["settings"]["symlog"])
        of_obs.load_state_dict(statistics)
        g = mlp(n_obs, [len(of_g[name]) for name in biases[:-1]], 1, output_gain=1.0)
        g.load_state_dict(of_g)
    except (KeyError, RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{run_dir}: its checkpoint holds no reward of states ({error})") from None
    return RecoveredReward(of_obs, g, facts.get("observation_space"))
