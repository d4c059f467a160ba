from crafted import craft


def test_wrong_content_with_right_checksums_is_refused_and_writes_nothing():
    """benchmarks/crafted.py has ten thousand."""
    table = craft(90, seed=2).set_index("kind")
    assert (table[["tracebacks", "crashes", "written_elsewhere"]] == 0).all(axis=None), table
    assert (table["refused"] > 0).all()
    assert (table["loading_mib"] < 128).all()
