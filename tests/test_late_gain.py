import numpy as np
import pytest

from rlgen.functional.adversarial import late_gain

FALL = np.linspace(1.4, 0.4, 20)  # the discriminator learns to tell the first policies


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (np.linspace(0.4, 1.2, 100), 0.25),  # rises evenly
        (np.concatenate((np.linspace(0.4, 1.2, 60), np.full(40, 1.2))), 0.0),  # settled
        (np.concatenate((np.linspace(0.4, 1.2, 80), np.linspace(1.2, 1.0, 20))), 0.0),  # 1.1 in both last fifths
        (np.concatenate((FALL, np.full(60, 0.4), np.full(20, 0.8))), 1.0),  # all of it at the end
        (np.concatenate((FALL, np.full(40, 0.5), np.full(20, 0.9), np.full(20, 0.7))), -1.0),  # unlearned
    ],
)
def test_it_is_the_share_of_the_rise(losses, expected):
    assert late_gain(losses) == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("losses", [[], np.linspace(0, 1, 9), np.linspace(1.4, 0.4, 100)])
def test_there_is_none_without_a_rise(losses):
    assert late_gain(losses) is None
