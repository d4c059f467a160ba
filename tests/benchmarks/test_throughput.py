import os
import signal

import pandas as pd
import pytest
import throughput


def test_rows_that_time_ran_out_for_are_empty(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("throughput.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("throughput.STOP", 4)
    rates = {"raw": iter([10.0, 20.0]), "ours": iter([5.0, 5.0]), "slow": iter([1.0])}
    rows = {name: lambda values=values: next(values) for name, values in rates.items()}
    table = throughput.interleave(rows, "raw", 3)
    assert table["steps_per_second"].to_dict() == {"raw": 15.0, "ours": 5.0, "slow": 1.0}
    assert table["ratio to raw"].to_dict() == {"raw": 1.0, "ours": 0.5, "slow": 0.1}
    monkeypatch.setattr("throughput.STOP", 0)
    assert pd.isna(throughput.interleave({"raw": lambda: 1.0}, "raw", 3)["steps_per_second"]).all()


def test_rows_before_a_signal_are_kept(monkeypatch):
    monkeypatch.setattr("throughput.STOP", float("inf"))
    before = signal.signal(signal.SIGTERM, throughput.stop)
    rows = {
        "raw": lambda: 10.0,
        "interrupted": lambda: os.kill(os.getpid(), signal.SIGTERM) or 1.0,
        "after": lambda: pytest.fail("measured"),
    }
    table = throughput.interleave(rows, "raw", 2)
    signal.signal(signal.SIGTERM, before)
    assert table["steps_per_second"]["raw"] == 10
    assert table["steps_per_second"][["interrupted", "after"]].isna().all()
