"""One way to make a vector environment: of an id, an EnvSpec, a function or an environment."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from rlgen.envs.batched_mujoco import BatchedMujocoEnv
from rlgen.envs.batched_ode import BatchedOdeEnv
from rlgen.envs.circles import BatchedCirclesEnv
from rlgen.envs.codes import Coded, CodedEnv
from rlgen.errors import UsageError
from rlgen.ranges import Count, check
from rlgen.spaces import ActionUnits, flat_box

if TYPE_CHECKING:
    import torch

_log = logging.getLogger("rlgen")

Environment = str | EnvSpec | Callable[[], gym.Env[Any, Any]] | gym.Env[Any, Any] | Coded
"""What environments are made of: a registered id, gymnasium's spec, a function that makes one, or one of them; any of
them with codes (`rlgen.envs.codes.Coded`)."""

Vectorization = Literal["sync", "async"]

Backend = Literal["mujoco", "warp"]
"""What steps MuJoCo tasks: MuJoCo itself, in NumPy on the CPU, or MuJoCo Warp, as tensors on a device."""


BACKEND_KWARGS: Mapping[str, Any] = {"nconmax": Count, "njmax": Count, "deterministic": bool}
"""Those of `warp`, see `rlgen.envs.warp_mujoco.WarpMujocoEnv`."""


def make_vec(
    env: Environment,
    n_envs: int,
    seed: int | None = None,
    *,
    n_threads: int | None = None,
    vectorization: Vectorization = "sync",
    backend: Backend = "mujoco",
    device: str | torch.device = "cpu",
    backend_kwargs: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    **more_kwargs: Any,
) -> VectorEnv[Any, Any, Any]:
    """A vector environment with same-step autoreset: batched where the task is one of ours, else gymnasium's.

    Observations are flat, a Box of one dimension (`rlgen.spaces.FlatBox`), and copies: an environment may reuse its
    array. Which class it is stands in the logger "rlgen": `BatchedMujocoEnv`, `BatchedOdeEnv` or gymnasium's
    `SyncVectorEnv` or `AsyncVectorEnv`.

    Args:
        env: a registered id, an `EnvSpec`, a function that makes an environment, or an environment that was made by
            `gymnasium.make`, of whose spec others are made. An id of the form `module:Id` would import the module, and
            is refused: import it yourself first.
        n_envs: number of environments.
        seed: environment i starts with `seed + i`; a later `reset()` continues those streams.
        n_threads: threads of the batched back end (default: all processors).
        vectorization: of what isn't batched: `sync` steps one after the other, `async` each in a process of its own.
        backend: `mujoco` gives NumPy arrays and gymnasium's own results, by MuJoCo on the CPU; `warp` makes a
            `TensorEnv`, whose physics are float32 on a device, of a MuJoCo task's id. `seed` is then that of all
            environments' one stream.
        device: of `warp`: "cpu", "cuda" or "cuda:N".
        backend_kwargs: of `warp`: `nconmax`, `njmax` and `deterministic` of `rlgen.envs.warp_mujoco.WarpMujocoEnv`.
        env_kwargs: the environment's constructor arguments.
        more_kwargs: likewise.

    Raises:
        UsageError: an id of the form `module:Id`, a space or a constructor argument that can't be used, an
            environment that only exists once, or a task or device that `backend` isn't for.
        gymnasium.error.NameNotFound: an unknown id, with near matches.
    """
    check("n_envs", n_envs, Count)
    if vectorization not in ("sync", "async"):
        raise UsageError(f"vectorization must be sync or async; got {vectorization}")
    kwargs = {**(env_kwargs or {}), **more_kwargs}
    if backend == "warp":
        return _on_device(env, n_envs, seed, device, backend_kwargs or {}, kwargs)
    if backend != "mujoco":
        raise UsageError(f"backend must be mujoco or warp; got {backend}")
    if str(device) != "cpu" or backend_kwargs:
        raise UsageError(f'device {device} and backend_kwargs {backend_kwargs or {}} are of backend="warp" alone')
    if isinstance(env, Coded):
        plain = make_vec(env.env, n_envs, n_threads=n_threads, vectorization=vectorization, env_kwargs=kwargs)
        coded = CodedEnv(plain, env.codes, env.code)
        coded.reset(seed=seed)
        return coded
    batched = {name: kind for kind in (BatchedMujocoEnv, BatchedOdeEnv, BatchedCirclesEnv) for name in kind.tasks}
    envs: VectorEnv[Any, Any, Any]
    try:
        if isinstance(env, str) and env in batched:
            envs = batched[env](env, n_envs, n_threads, **kwargs)
        elif _only_vectorized(env):
            envs = gym.make_vec(env, n_envs, "vector_entry_point", **kwargs)  # type: ignore[arg-type]
        else:
            vector = SyncVectorEnv if vectorization == "sync" else AsyncVectorEnv
            envs = vector([partial(_flat, maker(env, kwargs))] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
            envs.spec = envs.get_attr("spec")[0]
            if isinstance(envs, SyncVectorEnv) and len({id(one.unwrapped) for one in envs.envs}) < n_envs:
                raise UsageError("the function gave one environment twice; it must make a new one at each call")
    except TypeError as error:
        if "argument" not in str(error):  # not the call's, but of the constructor's own code
            raise
        raise UsageError(f"env_kwargs {kwargs}: {error}") from None
    _log.info("%s: %d environments by %s", environment_name(env), n_envs, type(envs).__name__)
    envs.reset(seed=seed)
    return envs


def _on_device(
    env: Environment,
    n_envs: int,
    seed: int | None,
    device: str | torch.device,
    backend_kwargs: Mapping[str, Any],
    env_kwargs: Mapping[str, Any],
) -> VectorEnv[Any, Any, Any]:
    """A task of `BatchedMujocoEnv` by MuJoCo Warp."""
    if isinstance(env, Coded):
        raise UsageError('codes need backend="mujoco"')
    if not isinstance(env, str) or env not in BatchedMujocoEnv.tasks:
        raise UsageError(
            f'backend="warp" is for the ids of MuJoCo tasks; got {environment_name(env)}. There are '
            f"{', '.join(BatchedMujocoEnv.tasks)}"
        )
    if unknown := sorted(backend_kwargs.keys() - set(BACKEND_KWARGS)):
        raise UsageError(f"backend_kwargs are {', '.join(BACKEND_KWARGS)}; got {', '.join(unknown)}")
    for name, value in backend_kwargs.items():
        check(name, value, BACKEND_KWARGS[name])
        if BACKEND_KWARGS[name] is bool and not isinstance(value, bool):
            raise UsageError(f"{name} must be true or false; got {value!r}")
    if wrong := sorted(env_kwargs.keys() & {"n_envs", "device", *BACKEND_KWARGS}):
        raise UsageError(f"env_kwargs: {wrong[0]} is no argument of {env}; backend_kwargs has those of Warp")
    try:
        from rlgen.envs.warp_mujoco import WarpMujocoEnv  # takes a second, and is an extra
    except ImportError as error:
        raise UsageError(f'backend="warp" needs MuJoCo Warp ({error}): pip install "rlgen[warp]"') from None
    envs = WarpMujocoEnv(env, n_envs, device, **{**backend_kwargs, **env_kwargs})
    envs.reset(seed=seed)
    _log.info("%s: %d environments by %s on %s", env, n_envs, type(envs).__name__, envs.device)
    return envs


def environment_name(env: Environment | VectorEnv[Any, Any, Any]) -> str:
    """An id, or what stands for it: a spec's, an environment's, a function's name."""
    if isinstance(env, Coded):
        return environment_name(env.env)
    if isinstance(env, str):
        return env
    spec = env if isinstance(env, EnvSpec) else env.spec if isinstance(env, gym.Env | VectorEnv) else None
    if spec is not None:
        return spec.id
    kind = env.unwrapped if isinstance(env, gym.Env) else env
    return getattr(kind, "__name__", type(kind).__name__).strip("<>")


def told_kwargs(env: Environment, env_kwargs: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The constructor arguments that an environment has beside its id's, as JSON values; None where nothing tells them.

    Args:
        env: an id, or what else `make_vec` takes; what a function makes isn't known.
        env_kwargs: as `make_vec` takes them.
    """
    kwargs = dict(env_kwargs or {})
    if not isinstance(env, str):
        spec = env if isinstance(env, EnvSpec) else getattr(env, "spec", None)
        if spec is None:
            return None
        registered = gym.registry[spec.id].kwargs if spec.id in gym.registry else {}
        kwargs = {
            name: x for name, x in spec.kwargs.items() if name not in registered or x != registered[name]
        } | kwargs
    try:
        return json.loads(json.dumps(kwargs))  # type: ignore[no-any-return]
    except (TypeError, ValueError):
        return None


def maker(env: Environment, kwargs: Mapping[str, Any]) -> Callable[[], gym.Env[Any, Any]]:
    """A function that makes one environment."""
    if isinstance(env, str) and ":" in env:
        raise UsageError(f"{env} names a module to import; import it yourself and pass {env.split(':')[1]}")
    if isinstance(env, gym.Env):
        if env.spec is None:
            raise UsageError(
                f"an environment of {type(env).__name__} that gymnasium.make didn't make can't be made again: pass a "
                "function that makes one"
            )
        env = env.spec
    if isinstance(env, str | EnvSpec):
        return partial(gym.make, env, **kwargs)
    if not callable(env):
        raise UsageError(f"an environment is an id, an EnvSpec, a function that makes one or one itself; got {env!r}")
    return partial(env, **kwargs)


def _only_vectorized(env: Environment) -> bool:
    if isinstance(env, str) and ":" not in env:
        env = gym.spec(env)
    return isinstance(env, EnvSpec) and env.entry_point is None


class _Flat(gym.ObservationWrapper[Any, Any, Any]):
    """Flat observations, copied before the environment is reset."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = self.flat = flat_box(env.observation_space)
        ActionUnits(env.action_space)  # refuses what no policy can do

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """The environment's, of which others are made."""
        return self.env.spec

    def observation(self, observation: Any) -> Any:
        return self.flat.flatten(observation, 1)[0]


def _flat(make: Callable[[], gym.Env[Any, Any]]) -> gym.Env[Any, Any]:
    """One environment with flat observations."""
    env = make()
    if not isinstance(env, gym.Env):
        raise UsageError(f"the function that makes an environment made {type(env).__name__}, no gymnasium.Env")
    return _Flat(env)
