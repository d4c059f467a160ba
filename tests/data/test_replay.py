import numpy as np
import torch
from gymnasium import spaces

from rlgen.data.replay import ReplayPool
from rlgen.types import Transitions

OBS = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def steps(first, *shape):
    """Transitions whose every field tells its number."""
    number = torch.arange(first, first + int(np.prod(shape)), dtype=torch.float32).reshape(shape)
    pair = number.unsqueeze(-1).expand(*shape, 2)
    return Transitions(pair, number.long() % 3, pair + 0.5, number, number % 2 == 0, number % 3 == 0)


def test_the_oldest_make_room_and_fields_stay_together():
    pool = ReplayPool(10, OBS, spaces.Discrete(3))
    pool.add(steps(0, 2, 3))
    assert len(pool) == 6
    assert set(pool.sample(200).rewards.tolist()) == set(range(6))
    pool.add(steps(6, 7))
    assert len(pool) == 10
    drawn = pool.sample(500)
    assert set(drawn.rewards.tolist()) == set(range(3, 13))
    torch.testing.assert_close(drawn.obs[:, 1], drawn.rewards)
    torch.testing.assert_close(drawn.next_obs[:, 0], drawn.rewards + 0.5)
    assert (drawn.actions == drawn.rewards.long() % 3).all()
    assert (drawn.terminated == (drawn.rewards % 2 == 0)).all()
    assert (drawn.truncated == (drawn.rewards % 3 == 0)).all()


def test_more_rows_than_fit_leave_the_last_ones():
    pool = ReplayPool(10, OBS, spaces.Discrete(3))
    pool.add(steps(0, 4))
    pool.add(steps(4, 25))
    assert set(pool.sample(500).rewards.tolist()) == set(range(19, 29))


def test_its_state_is_the_rows_that_are_filled():
    pool, other = (ReplayPool(10, OBS, spaces.Discrete(3)) for _ in range(2))
    pool.add(steps(0, 7))
    assert pool.state_dict()["_extra_state"]["rows"]["obs"].shape == (7, 2)
    pool.add(steps(0, 7))
    other.load_state_dict(pool.state_dict())
    assert (other.added, len(other)) == (14, 10)
    torch.manual_seed(0)
    drawn = pool.sample(50)
    torch.manual_seed(0)
    assert torch.equal(other.sample(50).obs, drawn.obs)
