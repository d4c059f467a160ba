"""No behaviour hangs on the name of an environment."""

import ast
import re
from pathlib import Path

import gymnasium as gym

import rlgen.envs

PACKAGE = Path(rlgen.__file__).parent
# A command's environment where none is told, and what `rlgen doctor` tries a machine with.
EXAMPLES = {"commands/expert.py", "commands/gail.py", "commands/vime.py", "commands/doctor.py"}
NAMES = {spec.name for spec in gym.registry.values()}


def named(source: str) -> set[str]:
    """Environments named by a module's text, but for its comments and docstrings; the whole name or an id of it."""
    tree = ast.parse(source)
    bare = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in bare]
    words = {word for text in texts if isinstance(text, str) for word in re.findall(r"\w+", text)}
    return words & NAMES


def test_no_module_outside_envs_names_an_environment():
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {where for where, path in modules.items() if named(path.read_text())}
    assert {where for where in found if not where.startswith("envs/")} == EXAMPLES


def test_a_name_in_a_condition_is_found_and_one_in_a_docstring_is_not():
    assert named('def f(i):\n    """As in Hopper."""\n    return i.startswith("Hopper")') == {"Hopper"}
    assert named('x = {"HalfCheetah-v4": 1}') == {"HalfCheetah"}
    assert named('"""HalfCheetah-v4"""') == set()
