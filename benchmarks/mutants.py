"""Change the code at random places, one change at a time, and see whether the tests notice.

python benchmarks/mutants.py --mutants 30

A mutant swaps an operator or a comparison, or changes a number, in `functional/`, `optim/` or `rewards/`; docstrings,
annotations, messages and arguments that no result depends on (`zip`'s `strict`, Adam's `fused`) are left alone. It is
caught when a test of those folders fails, or one of `--more`.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from cells import versions

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "mutants.csv"
FOLDERS = ("functional", "optim", "rewards")
WITHOUT_EFFECT = ("strict", "fused")
SWAPS: dict[type[ast.AST], str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.Pow: "*", ast.MatMult: "*", ast.FloorDiv: "*",
    ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
    ast.IsNot: "is", ast.And: "or", ast.Or: "and", ast.BitOr: "&", ast.BitAnd: "|",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of a file: characters `start` to `end` become `text`."""

    path: Path
    line: int
    start: int
    end: int
    before: str
    text: str


def mutants_of(path: Path) -> list[Mutant]:
    """Every change of a file."""
    source = path.read_text()
    lines = np.cumsum([0, *(len(line) for line in source.splitlines(keepends=True))])
    found: list[Mutant] = []

    def position(line: int, column: int) -> int:
        # Columns count bytes.
        text = source[lines[line - 1] :].encode()[:column].decode()
        return int(lines[line - 1]) + len(text)

    def between(left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        start, end = position(left.end_lineno, left.end_col_offset), position(right.lineno, right.col_offset)
        at = source.find(old, start, end)
        if at >= 0:
            found.append(Mutant(path, left.end_lineno, at, at + len(old), old, new))

    symbols = {
        ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.MatMult: "@", ast.FloorDiv: "//",
        ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is",
        ast.IsNot: "is not", ast.And: "and", ast.Or: "or", ast.BitOr: "|", ast.BitAnd: "&",
    }  # fmt: skip

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.JoinedStr | ast.Raise | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.keyword) and node.arg in WITHOUT_EFFECT:
            return
        if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
            between(node.left, node.right, symbols[type(node.op)], SWAPS[type(node.op)])
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            between(node.left, node.comparators[0], symbols[type(node.ops[0])], SWAPS[type(node.ops[0])])
        if isinstance(node, ast.BoolOp):
            between(node.values[0], node.values[1], symbols[type(node.op)], SWAPS[type(node.op)])
        if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
            value = not node.value if isinstance(node.value, bool) else node.value + 1
            start, end = position(node.lineno, node.col_offset), position(node.end_lineno, node.end_col_offset)
            found.append(Mutant(path, node.lineno, start, end, source[start:end], repr(value)))
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    walk(child)

    walk(ast.parse(source))
    return found


def caught(mutant: Mutant, more: list[str]) -> str:
    """The first failure of the tests on a copy of the code with this change; empty if there is none."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "copy"
        kept = shutil.ignore_patterns(".git", ".venv", "runs", "results", ".*cache", ".hypothesis", "_build")
        shutil.copytree(ROOT, copy, ignore=kept)
        path = copy / mutant.path.relative_to(ROOT)
        source = path.read_text()
        path.write_text(source[: mutant.start] + mutant.text + source[mutant.end :])
        mirror = copy / "tests" / mutant.path.parent.name / f"test_{mutant.path.stem}.py"
        folders = [f"tests/{folder}" for folder in FOLDERS]
        for tests in ([str(mirror)] if mirror.exists() else [], folders, more):
            if not tests:
                continue
            try:
                done = subprocess.run(
                    [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
                    cwd=copy,
                    env=os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
                    capture_output=True,
                    text=True,
                    timeout=600,
                )
            except subprocess.TimeoutExpired:
                return "hangs"
            if done.returncode:
                lines = done.stdout.splitlines()
                return next((line for line in lines if line.startswith(("FAILED", "ERROR"))), "fails")[:120]
    return ""


def main() -> None:
    """Draw mutants, try them, tell which survive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--more",
        nargs="*",
        default=["tests/nn", "tests/test_settings.py"],
        help="further tests, after those of the folders",
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    every = [
        m for folder in FOLDERS for path in sorted((ROOT / "rlgen" / folder).glob("*.py")) for m in mutants_of(path)
    ]
    drawn = np.random.default_rng(options.seed).choice(len(every), options.mutants, replace=False)
    print(f"{options.mutants} of {len(every)} mutants", flush=True)
    unchanged = Mutant(every[0].path, 1, 0, 0, "", "")
    if failure := caught(unchanged, options.more):
        raise SystemExit(f"error: the tests fail on unchanged code: {failure}")
    rows = []
    with ThreadPoolExecutor(options.jobs) as pool:
        mutants = [every[i] for i in drawn]
        for mutant, failure in zip(mutants, pool.map(lambda m: caught(m, options.more), mutants), strict=True):
            where = f"{mutant.path.relative_to(ROOT)}:{mutant.line}"
            rows.append({"where": where, "before": mutant.before, "after": mutant.text, "caught_by": failure})
            print(f"{where} {mutant.before} -> {mutant.text}: {failure or 'SURVIVES'}", flush=True)
    table = pd.DataFrame(rows)
    print(f"caught {(table['caught_by'] != '').sum()} of {len(table)}")
    table.assign(seed=options.seed, versions=versions()).to_csv(options.output, index=False)


if __name__ == "__main__":
    main()
