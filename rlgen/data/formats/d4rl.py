"""D4RL's HDF5 (Fu et al. 2020): one step after the other, `terminals` and `timeouts` mark the ends."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlgen.data.episodes import Episode, joined
from rlgen.data.formats.recording import (
    Array,
    Recording,
    fail,
    has_fields,
    hdf5_fields,
    needed,
    opened_hdf5,
    read_hdf5,
    split,
)
from rlgen.errors import DemonstrationError
from rlgen.files import write_bytes

NAME = "d4rl"
FIELDS = ("observations", "actions", "rewards", "terminals")
recognise = has_fields(hdf5_fields, FIELDS)


def read(path: Path, time_limit: int | None, skip_broken: bool = False) -> Recording:
    """See `Format`. Without `timeouts` an episode that doesn't terminate ends at the time limit."""
    arrays = read_hdf5(path, FIELDS, ("timeouts",))
    terminals = arrays["terminals"].reshape(-1).astype(bool)
    if len(terminals) != len(arrays["observations"]):
        fail(path, "terminals", f"{len(terminals)} rows beside {len(arrays['observations'])} observations")
    if "timeouts" in arrays:
        timeouts = arrays["timeouts"].reshape(-1).astype(bool)
        if len(timeouts) != len(terminals):
            fail(path, "timeouts", f"{len(timeouts)} rows beside {len(terminals)} terminals")
    else:
        timeouts = np.zeros(len(terminals), bool)
        run = 0
        for i, terminal in enumerate(terminals):
            run += 1
            timeouts[i] = run == time_limit and not terminal
            run = 0 if terminal or timeouts[i] else run
    done = np.flatnonzero(terminals | timeouts)
    if len(terminals) - (done[-1] + 1 if len(done) else 0) == time_limit:  # some files leave out the last flag
        timeouts[-1] = True
    stops = np.flatnonzero(terminals | timeouts) + 1
    if not len(stops) and time_limit is None and "timeouts" not in arrays:
        raise DemonstrationError(f"{path}: without timeouts the time limit splits its episodes; tell --env")
    final, env_id = _final_and_id(path, stops, arrays["observations"].shape)
    obs, actions, rewards = (arrays[field] for field in FIELDS[:3])
    ends = [(bool(terminals[i - 1]), bool(timeouts[i - 1])) for i in stops]
    episodes = split(path, obs, actions, rewards, np.diff(stops, prepend=0), ends=ends, final_obs=final)
    return Recording(
        NAME, episodes, env_id, n_incomplete=int(stops[-1] < len(terminals)), tells_ends="timeouts" in arrays
    )


def _final_and_id(path: Path, stops: Array, shape: tuple[int, ...]) -> tuple[Array | None, str | None]:
    """The true successors of the last steps alone, and the environment, where the file has them."""
    h5py = needed("h5py")
    final = env_id = None
    with opened_hdf5(path) as file:
        if "next_observations" in file:
            following = file["next_observations"]
            if not isinstance(following, h5py.Dataset) or following.shape != shape:
                fail(path, "next_observations", "its shape is not that of observations")
            final = following[stops - 1]
        found = file.get("metadata/env_id")
        # Of fixed length: HDF5 2.0 may search a damaged heap of variable ones without end.
        if isinstance(found, h5py.Dataset) and found.dtype.kind == "S" and found.shape == ():
            env_id = found[()].decode()
    return final, env_id


def write(path: Path, episodes: Sequence[Episode], env_id: str) -> None:
    """See `Writable`. The true successors go to `next_observations` where they are known."""
    h5py = needed("h5py")
    found = joined(episodes)
    arrays = {"observations": found["obs"], "actions": found["actions"], "rewards": found["rewards"]}
    for name, ends in (("terminals", "terminated"), ("timeouts", "truncated")):
        arrays[name] = np.zeros(len(found["rewards"]), bool)
        arrays[name][np.cumsum(found["lengths"]) - 1] = found[ends]
    if "final_obs" in found:
        arrays["next_observations"] = np.concatenate([e.obs[1:] for e in episodes])

    content = io.BytesIO()  # HDF5 reads what it writes
    with h5py.File(content, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip")
        file.create_dataset("metadata/env_id", data=np.bytes_(env_id.encode()))
    write_bytes(path, content.getvalue())
