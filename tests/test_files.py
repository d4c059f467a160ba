"""What is written is whole, and what is read is no more than it must be."""

import io
import json
import multiprocessing
import os
import signal

import numpy as np
import pytest

from rlgen.files import (
    MAX_DEPTH,
    check,
    csv_cell,
    parse_json,
    plain_files,
    printable,
    read_json,
    read_regular,
    write_atomically,
    write_bytes,
)

fork = multiprocessing.get_context("fork")


def write_without_end(path, begun):
    def write(file):
        file.write(b"half")
        file.flush()
        begun.set()
        signal.pause()

    write_atomically(path, write)


def test_the_next_write_removes_what_a_killed_one_left_and_nothing_in_use(tmp_path):
    writers = []
    for _ in range(2):
        begun = fork.Event()
        writers.append(fork.Process(target=write_without_end, args=(tmp_path / "model", begun)))
        writers[-1].start()
        assert begun.wait(30)
    write_bytes(tmp_path / "model.other", b"x")
    (tmp_path / ".model.mine").write_text("not a temporary file of ours")
    os.kill(writers[0].pid, signal.SIGKILL)
    writers[0].join()
    assert len(list(tmp_path.glob(".model.*"))) == 3
    write_bytes(tmp_path / "model", b"whole")
    assert len(list(tmp_path.glob(".model.*"))) == 2  # the other writer's and the user's
    writers[1].kill()
    writers[1].join()
    write_bytes(tmp_path / "model", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.mine", "model", "model.other"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_only_regular_files_are_read(tmp_path, make):
    make(tmp_path / "file")
    with pytest.raises(ValueError, match="file: not a regular file"):
        read_regular(tmp_path / "file")


def test_links_and_special_files_in_a_folder_are_named(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_text("a")
    os.symlink(tmp_path, tmp_path.with_suffix(".link"))
    assert [path.name for path in plain_files(tmp_path.with_suffix(".link"))] == ["a"]
    os.symlink(tmp_path / "inner", tmp_path / "linked")
    with pytest.raises(ValueError, match="linked: a link to another place"):
        plain_files(tmp_path)
    (tmp_path / "linked").unlink()
    os.mkfifo(tmp_path / "inner" / "pipe")
    with pytest.raises(ValueError, match="pipe: not a regular file"):
        plain_files(tmp_path)


def test_no_more_is_read_than_the_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(ValueError, match="5 bytes; at most 4 are read"):
        read_regular(tmp_path / "file", 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested more than 32 deep"),
        ('{"a":' * (MAX_DEPTH + 1) + "0" + "}" * (MAX_DEPTH + 1), "nested more than 32 deep"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1e999}', "1e999 is no number"),
        ('{"a": 1, "a": 2}', "a name twice"),
        ("[" + "0," * 1_100_000 + "0]", "values"),
        ('{"a": "\udcff"}', "surrogates not allowed"),
        ("[]", "field content: must be an object"),
    ],
)
def test_json_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text, errors="surrogatepass")
    with pytest.raises(ValueError, match=rf"a.json: .*({message}|invalid)"):
        read_json(tmp_path / "a.json")


SCHEMA = {"n": range(1, 10), "x?": float, "names": [str], "inner?": {"on": bool, "*": (int, None)}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"n": 1, "names": []}, None),
        ({"n": 9, "names": ["a"], "x": 3, "inner": {"on": True, "other": None}, "unknown": []}, None),
        ({"names": []}, "field n: missing"),
        ({"n": True, "names": []}, "field n: must be a whole number from 1 to 9; got true"),
        ({"n": 1.0, "names": []}, "field n: must be"),
        ({"n": 1, "names": ["a", 2]}, r"field names\[1\]: must be text; got 2"),
        ({"n": 1, "names": [], "x": "1"}, "field x: must be a number"),
        ({"n": 1, "names": [], "x": 10**400}, "field x: must be a number"),
        ({"n": 1, "names": [], "inner": {"on": 1}}, r"field inner\.on: must be true or false"),
        ({"n": 1, "names": [], "inner": {"on": True, "other": 1 << 63}}, r"field inner\.other"),
    ],
)
def test_a_schema_names_the_field_that_is_wrong(value, message):
    if message is None:
        check(value, SCHEMA)
        return
    with pytest.raises(ValueError, match=message):
        check(value, SCHEMA)


def test_text_of_files_commands_neither_terminals_nor_spreadsheets(tmp_path):
    assert printable("a\x1b]0;title\x07\nb\u202ec é") == r"a\x1b]0;title\x07\nb\u202ec é"
    assert [csv_cell(x) for x in ("=1+1", "+cmd", "-2+3", "@x", "\t=1", "gail", "-5.0", 3, None)] == [
        "'=1+1", "'+cmd", "'-2+3", "'@x", r"\t=1", "gail", "-5.0", 3, None,
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"field \\x1b: must be text"):
        parse_json(json.dumps({"\x1b": 1}), tmp_path, {"*": str})


def test_a_header_that_tells_of_more_than_there_is_makes_nothing(tmp_path):
    from safetensors.numpy import save

    from rlgen.files import opened, read_safetensors

    path = tmp_path / "a.safetensors"
    whole = save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True, False])}, {"told": "x"})

    def read(content):
        path.write_bytes(content)
        with opened(path) as file:
            return read_safetensors(file, path)

    arrays, metadata = read(whole)
    assert metadata == {"told": "x"}
    assert arrays["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["b"].tolist() == [True, False]
    for wrong in (
        whole.replace(b"[2,3]", b"[9,9]"),
        whole.replace(b'"F32"', b'"F64"'),
        whole.replace(b"[0,24]", b"[4,24]"),
        whole.replace(b'"BOOL"', b'"BF16"'),
        whole[:-1] + b"\x02",
        whole + b"\0",
        (1 << 62).to_bytes(8, "little") + whole[8:],
        io.BytesIO().getvalue(),
    ):
        with pytest.raises(ValueError, match=r"a\.safetensors"):
            read(wrong)
