"""The HDF5 of Ho & Ermon's code: batches of trajectories, padded with zeros to the longest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rlgen.data.formats.recording import Recording, fail, has_fields, hdf5_fields, read_hdf5, split

NAME = "openai-imitation"
FIELDS = ("obs_B_T_Do", "a_B_T_Da", "r_B_T", "len_B")
recognise = has_fields(hdf5_fields, FIELDS)


def read(path: Path, time_limit: int | None, skip_broken: bool = False) -> Recording:
    """See `Format`. It has no final observations and doesn't tell how an episode ends."""
    arrays = read_hdf5(path, FIELDS)
    obs, actions, rewards, lengths = (arrays[field] for field in FIELDS)
    if obs.ndim < 3 or actions.shape[:2] != obs.shape[:2] or rewards.shape != obs.shape[:2]:
        fail(path, "obs_B_T_Do", f"shapes {obs.shape}, {actions.shape} and {rewards.shape} don't fit together")
    if lengths.shape != obs.shape[:1] or lengths.dtype.kind not in "iu" or not len(lengths):
        fail(path, "len_B", "must be one whole number a trajectory")
    if lengths.min() < 1 or lengths.max() > obs.shape[1]:
        fail(path, "len_B", f"must lie in 1..{obs.shape[1]}")
    kept = np.arange(obs.shape[1]) < lengths[:, None]
    return Recording(NAME, split(path, obs[kept], actions[kept], rewards[kept], lengths, time_limit), tells_ends=False)
