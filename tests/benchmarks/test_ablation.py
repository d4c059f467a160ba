import argparse

import ablation
import pandas as pd
import pytest


def cells(**changes):
    options = {"envs": ["Ant-v4"], "seeds": [0], "variants": list(ablation.VARIANTS), "total_timesteps": None}
    return ablation.cells_of(argparse.Namespace(**options | changes))


def test_a_variant_differs_from_the_preset_by_its_change_alone():
    preset, _, none, spectral, *_ = cells()
    settings = [ablation.settings_of(cell) for cell in (preset, none, spectral)]
    assert settings[0].gail.gradient_penalty_coef > 0
    assert settings[1].gail.gradient_penalty_coef == 0
    assert not settings[1].spectral_norm
    assert settings[2].spectral_norm
    assert settings[0].learner == settings[1].learner == settings[2].learner
    assert len({cell["settings"] for cell in cells()}) == len(ablation.VARIANTS)


def test_three_seeds_are_shown_and_have_no_interval():
    scores = ("0.5", "0.25", "0.75")
    rows = [{"env_id": "Ant-v4", "variant": "none", "normalised_score": s, "curve": "0 " * 20} for s in scores]
    (found,) = ablation.summarise(pd.DataFrame(rows)).to_dict("records")
    assert found["by_seed"] == "0.500 0.250 0.750"
    assert pd.isna(found["low"])


def test_the_summary_by_hand():
    rows = [
        {"env_id": "Ant-v4", "variant": variant, "normalised_score": str(score + 0.01 * seed), "curve": curve}
        for variant, score, curve in (
            ("gradient penalty", 0.9, "0 " * 16 + "1 1 1 1"),
            ("none", 0.1, "0 " * 16 + "1 0 1 0"),
        )
        for seed in range(5)
    ]
    preset, none = ablation.summarise(pd.DataFrame(rows)).to_dict("records")
    assert none["score"] == pytest.approx(0.12)
    assert (none["low"], none["high"], none["by_seed"]) == (pytest.approx(0.1), pytest.approx(0.14), "")
    assert (preset["spread"], none["spread"]) == (0, 0.5)
    assert none["over_high"] < -0.7
