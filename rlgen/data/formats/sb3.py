"""The npz of Stable-Baselines' `generate_expert_traj` and `pretrain`: flat steps, `episode_starts` marks the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlgen.data.episodes import Episode, joined
from rlgen.data.formats.recording import Recording, fail, has_fields, npz_fields, read_npz, split
from rlgen.files import write_atomically

NAME = "sb3"
FIELDS = ("obs", "actions", "rewards", "episode_starts")
recognise = has_fields(npz_fields, FIELDS)


def read(path: Path, time_limit: int | None, skip_broken: bool = False) -> Recording:
    """See `Format`. It records whole episodes, and neither their final observations nor how they end."""
    arrays = read_npz(path, path, FIELDS)
    starts = arrays["episode_starts"].reshape(-1).astype(bool)
    if len(starts) != len(arrays["obs"]) or not len(starts) or not starts[0]:
        fail(path, "episode_starts", "must have one flag an observation, the first of them true")
    lengths = np.diff(np.append(np.flatnonzero(starts), len(starts)))
    episodes = split(path, arrays["obs"], arrays["actions"], arrays["rewards"], lengths, time_limit)
    return Recording(NAME, episodes, tells_ends=False)


def write(path: Path, episodes: Sequence[Episode], env_id: str) -> None:
    """See `Writable`."""
    found = joined(episodes)
    starts = np.zeros(len(found["rewards"]), bool)
    starts[np.cumsum(found["lengths"]) - found["lengths"]] = True
    arrays = {
        "actions": found["actions"].reshape(len(starts), -1),
        "obs": found["obs"],
        "rewards": found["rewards"],
        "episode_returns": np.array([e.total_reward for e in episodes]),
        "episode_starts": starts,
    }
    write_atomically(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
