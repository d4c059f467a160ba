import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from random_environments import boxes, leaves, observation_spaces

from rlgen.nn.actions import ActionCoder
from rlgen.spaces import ActionUnits, FlatBox, column_order, describe_space, described_space

FEW = settings(max_examples=50, deadline=None, derandomize=True)


@FEW
@given(observation_spaces)
def test_flat_observations_are_gymnasiums(space):
    space.seed(0)
    flat, samples = FlatBox(space), [space.sample() for _ in range(3)]
    expected = [spaces.flatten(space, x) for x in samples]
    for x, row in zip(samples, expected, strict=True):
        np.testing.assert_array_equal(flat.flatten(x, 1)[0], row.astype(flat.dtype))
    stacked = gym.vector.utils.concatenate(space, samples, gym.vector.utils.create_empty_array(space, 3))
    np.testing.assert_array_equal(flat.flatten(stacked, 3), np.array(expected, flat.dtype))
    rows, single = flat.rows(samples[0])
    assert single
    np.testing.assert_array_equal(rows[0], expected[0].astype(flat.dtype))
    assert sum(width for _, width in flat.columns) == spaces.flatdim(space)


@FEW
@given(observation_spaces)
def test_a_space_survives_json(space):
    again = described_space(json.loads(json.dumps(describe_space(FlatBox(space)))))
    assert again == space
    if isinstance(space, spaces.Dict):
        assert list(again.spaces) == list(space.spaces)


@pytest.mark.parametrize(
    "description",
    [
        None,
        {},
        {"type": "Text"},
        {"type": "Box", "shape": [2], "low": [0, 0], "high": [1]},
        {"type": "Box", "shape": [1 << 40], "low": 0, "high": 1},
        {"type": "Box", "shape": [1], "low": True, "high": 1},
        {"type": "Box", "shape": [1], "low": 2, "high": 1},
        {"type": "Box", "shape": [1], "low": 0, "high": 1e300},
        {"type": "Box", "shape": [1], "low": 0, "high": 300, "dtype": "uint8"},
        {"type": "Box", "shape": [1], "low": 0, "high": 1, "dtype": "object"},
        {"type": "Discrete", "n": 0},
        {"type": "Discrete", "n": 2.0},
        {"type": "Discrete", "n": 1 << 60},
        {"type": "MultiDiscrete", "nvec": [2, [3]], "start": [0, 0]},
        {"type": "MultiDiscrete", "nvec": [1 << 23] * 4, "start": [0] * 4},
        {"type": "Dict", "spaces": {"a": {"type": "Discrete", "n": 2}}},
        {"type": "Dict", "spaces": [["a", {"type": "Discrete", "n": 2}]] * 2},
        {"type": "Tuple", "spaces": [{"type": "Tuple", "spaces": [3]}]},
    ],
)
def test_what_describes_no_space_is_refused(description):
    with pytest.raises(ValueError, match=r"space|Box|Dict|Tuple|Discrete"):
        described_space(description)


@FEW
@given(leaves, st.floats(-50, 50, width=32))
def test_executed_actions_are_in_their_space(space, value):
    units = ActionUnits(space)
    sizes = np.array(units.sizes or [0])
    samples = np.full((2, *units.sample_shape), value, np.float32)
    if units.sizes is not None:
        samples = (np.abs(samples).astype(np.int64) % sizes).reshape(samples.shape)
    actions = units.execute(samples)
    for action in actions:
        assert space.contains(action.item() if isinstance(space, spaces.Discrete) else action)
    stored = torch.from_numpy(actions.astype(units.stored_dtype))
    back = ActionCoder(space).samples(stored).numpy()
    again = units.execute(back)
    tolerance = 0 if units.stored_dtype is np.int64 else 1e-5
    np.testing.assert_allclose(again.astype(float), actions.astype(float), rtol=tolerance, atol=tolerance)


@FEW
@given(boxes())
def test_bounds_of_a_box_are_its_units(space):
    units = ActionUnits(space)
    for sign, bound, told in ((-1, space.low, space.bounded_below), (1, space.high, space.bounded_above)):
        both = (space.bounded_below & space.bounded_above).ravel()
        found = units.execute(np.full((1, units.centre.size), sign, np.float32))[0].ravel()
        np.testing.assert_allclose(found[both].astype(float), bound.ravel()[both].astype(float), rtol=1e-3)
        assert told.shape == space.shape


def test_one_sided_and_unbounded_dimensions_have_a_unit_of_one():
    units = ActionUnits(spaces.Box(np.array([2, -np.inf, -np.inf]), np.array([np.inf, 5, np.inf]), dtype=np.float64))
    assert units.centre.tolist() == [3, 4, 0]
    assert units.half_range.tolist() == [1, 1, 1]
    limits = np.finfo(np.float32)
    wide = ActionUnits(spaces.Box(limits.min, limits.max, (1,), np.float32))
    assert (wide.centre[0], wide.half_range[0]) == (0, 1)


def test_columns_are_matched_by_name():
    found, wanted = (("angle", 2), ("velocity", 1)), (("velocity", 1), ("angle", 2))
    assert column_order(found, wanted).tolist() == [2, 0, 1]
    with pytest.raises(
        ValueError, match=r"its parts are angle \(2\), velocity \(1\); the environment's are speed \(3\)"
    ):
        column_order(found, (("speed", 3),))
