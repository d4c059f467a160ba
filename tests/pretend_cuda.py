"""Which tensors would be on a GPU, tracked on a machine without one.

`PretendCUDA` runs everything on the CPU and notes the storages that a program puts on `cuda`. Like CUDA it refuses to
mix both kinds in one operation and to view a tensor of the GPU as a NumPy array. Random numbers are the CPU's.
"""

import re

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)
MOVES = {torch.Tensor.copy_, torch.Tensor.data.__set__, torch._has_compatible_shallow_copy_type}
JOINS = {torch.cat, torch.stack, torch.logaddexp, torch.maximum, torch.minimum}
READS = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}


class PretendCUDA(TorchFunctionMode):
    """While it is entered, `device="cuda"` works, in pretence."""

    def __init__(self):
        super().__init__()
        self.storages = {}  # kept, so that no address is used again

    def holds(self, x):
        return x.untyped_storage()._cdata in self.storages

    def put(self, found):
        for x in tree_leaves(found):
            if isinstance(x, torch.Tensor):
                self.storages[x.untyped_storage()._cdata] = x.untyped_storage()
        return found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if func == torch.Tensor.device.__get__:
            return CUDA if self.holds(args[0]) else torch.device("cpu")
        if func == torch.Tensor.is_cuda.__get__:
            return self.holds(args[0])
        if func is torch.Tensor.numpy and self.holds(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is torch.Tensor.cpu:
            return args[0].clone() if self.holds(args[0]) else args[0]
        if func is torch.Tensor.to:
            return self.move(*args, **kwargs)
        if kwargs.get("device") is not None:
            device = torch.device(kwargs.pop("device"))
            found = func(*args, **kwargs)
            return self.put(found.clone() if tensors else found) if device.type == "cuda" else found
        self.check(func, args, tensors)
        found = func(*args, **kwargs)
        return self.put(found) if any(self.holds(x) for x in tensors) and func not in MOVES else found

    def move(self, x, *args, **kwargs):
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        if args and isinstance(args[0], torch.Tensor):
            device = CUDA if self.holds(args[0]) else torch.device("cpu")
        was = self.holds(x)
        goes = was if device is None else device.type == "cuda"
        found = x if dtype is None else x.to(dtype)
        found = found.clone() if goes != was and found is x else found
        return self.put(found) if goes else found

    def check(self, func, args, tensors):
        """Refuse what CUDA refuses; scalars on the CPU may meet any tensor, and index tensors there one of the GPU."""
        if func in MOVES:
            return
        if func in READS:
            indices = [x for x in tree_leaves(args[1]) if isinstance(x, torch.Tensor)]
            values = [x for x in args[2:] if isinstance(x, torch.Tensor) and x.ndim and indices]
            wrong = not self.holds(args[0]) and any(map(self.holds, indices))
            wrong |= any(self.holds(x) != self.holds(args[0]) for x in values)
        else:
            on_cuda = [self.holds(x) for x in tensors]
            scalars_may = func not in JOINS
            wrong = any(on_cuda) and not all(
                here or (scalars_may and not x.ndim) for here, x in zip(on_cuda, tensors, strict=True)
            )
            if func.__name__.startswith("__i") or re.fullmatch(r"[a-z]\w*_", func.__name__):  # in place
                wrong |= any(on_cuda) and bool(args) and not self.holds(args[0])
        if wrong:
            raise RuntimeError(f"{func.__name__}: expected all tensors to be on the same device, found cuda:0 and cpu")


class SameDraws(TorchFunctionMode):
    """Random numbers are drawn on the CPU whatever the device, so that results of two devices can be compared."""

    DRAWS = frozenset({torch.rand, torch.randn, torch.randint, torch.randperm})

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in self.DRAWS:
            device = kwargs.pop("device", None)
            with torch.device("cpu"):
                drawn = func(*args, **kwargs)
            return drawn if device is None else drawn.to(device)
        if func is torch.randn_like:
            with torch.device("cpu"):
                return torch.randn(args[0].shape, dtype=args[0].dtype).to(args[0].device)
        return func(*args, **kwargs)
