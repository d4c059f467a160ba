"""OpenAI baselines' npz of experts: `obs`, `acs` and `rews` as episodes x steps, episodes equally long."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rlgen.data.formats.recording import Recording, fail, has_fields, npz_fields, read_npz, split

NAME = "baselines"
FIELDS = ("obs", "acs", "rews")
recognise = has_fields(npz_fields, FIELDS)


def read(path: Path, time_limit: int | None, skip_broken: bool = False) -> Recording:
    """See `Format`. Episodes of several lengths stand in Python objects there, which are not read."""
    arrays = read_npz(path, path, FIELDS)
    if arrays["obs"].ndim < 3:
        fail(path, "obs", f"must be episodes x steps x values; got shape {arrays['obs'].shape}")
    n_episodes, length = arrays["obs"].shape[:2]
    for field in ("acs", "rews"):
        if arrays[field].shape[:2] != (n_episodes, length):
            fail(path, field, f"shape {arrays[field].shape} beside observations of {arrays['obs'].shape}")
    obs, actions, rewards = (arrays[field].reshape(-1, *arrays[field].shape[2:]) for field in FIELDS)
    episodes = split(path, obs, actions, rewards, np.full(n_episodes, length), time_limit)
    return Recording(NAME, episodes, tells_ends=False)
