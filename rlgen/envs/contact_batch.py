"""A MuJoCo batch that computes contact forces (`cfrc_ext`) after every step, as gymnasium's environments do.

`mujoco.batch.Batch` doesn't expose `mjb_apply`, so this calls the public C interface (mjbatch.h) through ctypes.
"""

from __future__ import annotations

import ctypes
import glob
import os
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

_POINTER = ctypes.c_void_p


class _Config(ctypes.Structure):
    _fields_ = (("nthread", ctypes.c_int), ("persistent", ctypes.c_bool))


def _library() -> ctypes.CDLL:
    # The extension modules have loaded it already: this gives the same library, not a second one.
    library = ctypes.CDLL(glob.glob(os.path.join(os.path.dirname(mujoco.__file__), "libmujoco.*"))[0])
    for name in ("makeBatch", "state", "stateComponent", "warning", "status", "output"):  # the others give an int
        getattr(library, f"mjb_{name}").restype = _POINTER
    return library


class ContactForceBatch:
    """The part of `mujoco.batch.Batch` that `BatchedMujocoEnv` uses, plus contact forces after each step.

    Args:
        model: copied by the engine.
        nsim: number of simulations; each keeps an MjData of its own, without which `cfrc_ext` would not outlive a call.
        nthread: threads, 0 for one a logical processor.
    """

    def __init__(self, model: mujoco.MjModel, nsim: int, nthread: int = 0) -> None:
        self._library = _library()
        self._nsim = nsim
        self._template = mujoco.MjData(model)
        message = ctypes.create_string_buffer(1000)
        config = _Config(nthread, True)
        self._batch = _POINTER(
            self._library.mjb_makeBatch(_POINTER(model._address), nsim, ctypes.byref(config), message, 1000)
        )
        if not self._batch:
            raise RuntimeError(f"MuJoCo could not make a batch of {nsim}: {message.value.decode()}")
        self._contact_forces = ctypes.cast(self._library.mj_rnePostConstraint, _POINTER)
        self.state = self._array(self._library.mjb_state(self._batch), (nsim, self._library.mjb_nstate(self._batch)))
        n_warnings = int(mujoco.mjtWarning.mjNWARNING)
        self.warning = self._array(self._library.mjb_warning(self._batch), (nsim, n_warnings, 2), np.int32)
        self.status = self._array(self._library.mjb_status(self._batch), (nsim,), np.int32)

    def __del__(self) -> None:
        if getattr(self, "_batch", None):
            self._library.mjb_deleteBatch(self._batch)

    def _array(self, address: int, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
        buffer = (ctypes.c_char * (int(np.prod(shape)) * np.dtype(dtype).itemsize)).from_address(address)
        return np.frombuffer(memoryview(buffer), dtype).reshape(shape)

    def bind(self, name: str) -> npt.NDArray[Any]:
        """A live `[nsim, ...]` array of an MjData field: state to write, or outputs of the last call to read."""
        size = ctypes.c_int()
        if name in ("qpos", "qvel", "ctrl"):
            component = int(getattr(mujoco.mjtState, f"mjSTATE_{name.upper()}"))
            first = self._library.mjb_stateComponent(self._batch, component, ctypes.byref(size))
            offset = (first - self.state.ctypes.data) // self.state.itemsize
            return self.state[:, offset : offset + size.value]
        template = getattr(self._template, name)
        address = self._library.mjb_output(self._batch, name.encode(), ctypes.byref(size), None)
        return self._array(address, (self._nsim, *template.shape), template.dtype)

    def step(self, nstep: int, stage: int) -> None:
        """Advance all simulations by `nstep` substeps, compute contact forces, then stages up to `stage`."""
        self._library.mjb_step(self._batch, None, 0, nstep, int(mujoco.mjtStage.mjSTAGE_NONE))
        failed = self.status.copy()
        self._library.mjb_apply(self._batch, None, 0, self._contact_forces, None, 0)
        self._library.mjb_forward(self._batch, None, 0, stage)
        if failed.any():
            raise mujoco.batch.SimulationError(np.flatnonzero(failed), "see the engine's log")

    def reset(self, ids: npt.NDArray[np.int32], stage: int) -> None:
        """Reset simulations to the model's defaults."""
        self._library.mjb_reset(self._batch, ids.ctypes.data_as(_POINTER), len(ids), None, stage)

    def forward(self, ids: npt.NDArray[np.int32]) -> None:
        """Run `mj_forward` on simulations."""
        self._library.mjb_forward(self._batch, ids.ctypes.data_as(_POINTER), len(ids), int(mujoco.mjtStage.mjSTAGE_ACC))
