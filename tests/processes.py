"""Scripts in processes of their own: started anew, or forked from one that has torch and rlgen imported.

The imports take most of a small run's time. What is forked is the same script with the same exit; that a script imports
what it needs shows only anew, once a script. The fork is not one of the tests' own process, whose threads, GPU and
registered environments no command begins with.
"""

import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"
RLGEN = Path(sys.executable).with_name("rlgen")  # the command, a script too
SECONDS = 120
# What a run imports beside rlgen's modules; torch.optim the first of these, when an optimizer is made.
LATE = ("torch._dynamo", "torch.utils.tensorboard", "matplotlib.figure", "matplotlib.backends.backend_agg", "typeguard")


def command(script, *arguments):
    """Its words; a script of another folder is told by its path."""
    return [sys.executable, *map(str, (SCRIPTS / script, *arguments))]


def anew(script, *arguments, cwd=None, **options):
    """What became of `python script arguments`."""
    options = {"capture_output": True, "text": True, "timeout": SECONDS} | options
    return subprocess.run(command(script, *arguments), cwd=cwd, **options)


def forked(script, *arguments, cwd=None):
    """The same, in a fork of a server that lives as long as the tests."""
    _, *argv = command(script, *arguments)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        order = {"argv": argv, "cwd": str(cwd or Path.cwd()), "environment": dict(os.environ)}
        server = _server()
        print(json.dumps(order | {"files": [os.devnull, str(out), str(err)]}), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(argv, code, out.read_text(), err.read_text())


@functools.cache
def _server():
    return subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def serve():
    import rlgen

    names = [module.name for module in pkgutil.walk_packages(rlgen.__path__, "rlgen.")]
    for name in (*names, *LATE):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    gc.freeze()  # else each fork's collector copies the pages of what is imported
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become(**json.loads(line))
            return  # to an exit like any script's
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(argv, cwd, environment, files):
    for number, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    signal.alarm(SECONDS)
    sys.argv, sys.path[0] = argv, str(Path(argv[0]).parent)
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    serve()
