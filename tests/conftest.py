"""Shared by all tests."""

import gymnasium as gym
import pytest
import torch
from pretend_cuda import PretendCUDA

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
)


@pytest.fixture(autouse=True)
def _quiet_and_seeded():
    gym.logger.min_level = gym.logger.ERROR
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(params=["pretended", CUDA])
def cuda(request, monkeypatch):
    """The device "cuda": the machine's GPU, and on every machine its pretence on the CPU."""
    if request.param == "cuda":
        yield torch.device("cuda")
        return
    monkeypatch.setattr("torch.cuda.get_rng_state", lambda device="cuda": torch.get_rng_state())
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda state, device="cuda": torch.set_rng_state(state))
    with PretendCUDA():
        yield torch.device("cuda")
