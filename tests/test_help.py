"""`rlgen COMMAND --help`: each flag has a sentence and its default, in lines of words."""

import importlib
import io
import itertools
import re
import sys
from typing import get_args

import pytest

from rlgen.__main__ import COMMANDS
from rlgen.command import call
from rlgen.commands import data

WIDTH = 80
OF_DATA = [["data", kind.__name__.lower()] for kind in get_args(data.Arguments)]


def help_of(monkeypatch, command, *words):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(SystemExit):
        call(importlib.import_module(f"rlgen.commands.{command}"), [*words, "--help"])
    out.seek(0)
    return out.read().splitlines()


@pytest.fixture(params=[*([name] for name in COMMANDS), *OF_DATA], ids=" ".join)
def lines(request, monkeypatch):
    """What --help prints."""
    found = help_of(monkeypatch, *request.param)
    assert entries(found) or request.param in (["doctor"], ["data"])
    return found


def entries(lines):
    """Of each flag and argument its own words and the lines of its explanation."""
    found, inside = [], False
    for line in lines:
        if line.startswith("╭"):
            inside = "options" in line or "arguments" in line
        content = line[2:-2].rstrip()
        if not inside or not line.startswith("│") or content.startswith("─"):
            continue
        if content.startswith((" ", "\t")):
            found[-1][1].append(content)
        elif re.match(r"-|\[|{|[A-Z]+(  |$)", content):
            head, explained = re.fullmatch(r"(.*?)(?:  +(\S.*))?", content).groups()
            found.append((head, [" " * content.index(explained) + explained] if explained else []))
    return [entry for entry in found if "--help" not in entry[0]]


def test_each_flag_has_a_sentence_and_a_default_that_is_a_value(lines):
    for flag, explanation in entries(lines):
        text = " ".join(line.strip() for line in explanation)
        sentence, _, end = text.rpartition(" (")
        assert re.match(r"[A-Z`]|module:Id", sentence), (flag, text)
        assert sentence.endswith("."), (flag, text)
        assert re.fullmatch(r"required\)|default: .+\)", end), (flag, text)
        assert end not in ("default: None)", "default: ())"), (flag, text)


def test_lines_are_as_wide_as_the_terminal_and_broken_where_the_next_word_has_no_room(lines):
    assert max(map(len, lines)) <= WIDTH
    for flag, explanation in entries(lines):
        for line, following in itertools.pairwise(explanation):
            assert len(line) + 1 + len(following.split()[0]) > WIDTH - 4, (flag, line)


def test_examples_have_a_line_each(monkeypatch):
    examples = [line for line in help_of(monkeypatch, "data") if line.startswith("  python")]
    assert len(examples) == data.__doc__.count("\npython") > 1
