#!/usr/bin/env bash
# What a machine with a GPU shows, within nine minutes and without a package index; CSV files, each row once it is known.
#
#   benchmarks/accelerator.sh OUT [WHEELS]
#       OUT     folder for the CSV files
#       WHEELS  folder of wheels that are put into a temporary folder for this run; without it what Python has is used
#   benchmarks/accelerator.sh wheels FOLDER PYTHON_VERSION [LEAVE_OUT ...]
#       fills FOLDER, on a machine with a package index, for the target's Python (such as 3.12) on 64-bit x86 Linux.
#       LEAVE_OUT are packages that the target has, such as numpy pandas matplotlib pillow, or that it is to do without,
#       warp-lang and mujoco-warp (145 of the 216 MB), for which the parts warp_* are left out.
#
#   PYTHON          the Python that has torch (default: python3)
#   DEVICES         what to compare (default: "cuda cpu", or cpu without CUDA)
#   STEPS           of each row of whole training (default: 20000)
#   BUDGET_SECONDS  time for everything (default: 540); each part's limit is a share of it
#   ONLY            names of the parts to run, such as "tests resume" (default: all); commands.csv and the like grow
set -uo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
PYTHON=${PYTHON:-python3}
BUDGET=${BUDGET_SECONDS:-540}

# Everything that the parts import, torch and what torch brings aside.
PACKAGES="numpy pandas python-dateutil matplotlib contourpy cycler kiwisolver packaging pillow pyparsing tensorboard
    absl-py protobuf markdown werkzeug markupsafe gymnasium cloudpickle farama-notifications typing-extensions mujoco
    mujoco-core glfw imageio fonttools tyro docstring-parser typeguard safetensors threadpoolctl pytest iniconfig pluggy pygments
    mujoco-warp warp-lang"

usage() {
    sed -n '3,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

download() {
    [ $# -ge 2 ] || usage
    local folder=$1 version=$2 name pin pins=()
    shift 2
    for name in $PACKAGES; do
        case " $* " in *" $name "*) continue ;; esac
        pin=$(sed 's/_/-/g' "$ROOT/constraints.txt" | grep -i "^$name==") || {
            echo "error: constraints.txt pins no $name" >&2
            exit 1
        }
        pins+=("$pin")
    done
    "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --python-version "$version" --implementation cp \
        --abi "cp${version/./}" --abi abi3 --abi none --platform manylinux_2_28_x86_64 \
        --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        --dest "$folder" "${pins[@]}" || exit 1
    du -sh "$folder"
}

if [ "${1:-}" = wheels ]; then
    shift
    download "$@"
    exit
fi
[ $# -ge 1 ] && [ $# -le 2 ] || usage
case $1 in -*) usage ;; esac
mkdir -p "$1" || exit 1
OUT=$(cd "$1" && pwd) || exit 1
WHEELS=${2:-}
LOG=$OUT/log.txt
: >"$LOG" || exit 1
SCRATCH=$(mktemp -d) || exit 1
trap 'rm -rf "$SCRATCH"' EXIT
FAILED=0
echo "part,status,exit_code,seconds,limit_seconds" >"$OUT/parts.csv"

# part NAME SHARE COMMAND...: runs it for at most SHARE / 540 of the budget; its end is a row of parts.csv.
part() {
    local name=$1 started=$SECONDS code status limit=$(($2 * BUDGET / 540)) left=$((BUDGET - SECONDS - 5))
    case "${ONLY:+ install import $ONLY }" in "" | *" ${name%% *} "* | *" ${name##* } "*) ;; *) return ;; esac
    shift 2
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -lt 5 ]; then
        code="" status="skipped: no time left"
    else
        echo "== $name: $*" >>"$LOG"
        PART_SECONDS=$limit timeout -k 5 "$limit" "$@" >>"$LOG" 2>&1
        code=$?
        case $code in 0) status=ok ;; 124 | 137) status="timed out" ;; *) status=failed ;; esac
    fi
    [ "$status" = ok ] || FAILED=1
    echo "$name,$status,$code,$((SECONDS - started)),$limit" | tee -a "$OUT/parts.csv"
    [ "$status" = ok ]
}

export PYTHONPATH=$ROOT:$ROOT/benchmarks PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
if [ -n "$WHEELS" ]; then
    wheels=("$WHEELS"/*.whl)
    part install 60 "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
        --target "$SCRATCH/site" "${wheels[@]}" || exit 1
    PYTHONPATH=$PYTHONPATH:$SCRATCH/site
fi
part import 40 "$PYTHON" -c "import pytest, torch, matplotlib.figure, torch.utils.tensorboard, throughput, rlgen.commands.gail, rlgen.experiment" || exit 1
if [ -z "${DEVICES:-}" ]; then
    DEVICES=$("$PYTHON" -c "import torch; print('cuda cpu' if torch.cuda.is_available() else 'cpu')") || exit 1
fi
FIRST=${DEVICES%% *}
accelerator() { part "$1" "$2" "$PYTHON" "$ROOT/benchmarks/accelerator.py" --out "$OUT" "${@:3}"; }
throughput() {
    part "throughput $1" "$2" "$PYTHON" "$ROOT/benchmarks/throughput.py" --sections "$1" --results "$OUT" \
        --stop-after "$(($2 * BUDGET / 540 / 2))" "${@:3}"
}

cd "$SCRATCH" || exit 1
accelerator "tests" 70 tests "$FIRST"
accelerator "gail $FIRST" 80 gail "$FIRST"
accelerator "resume $FIRST" 75 resume "$FIRST"
for device in $DEVICES; do
    [ "$device" = "$FIRST" ] || accelerator "gail $device" 80 gail "$device"
done
for device in $DEVICES; do accelerator "vime $device" 60 vime "$device"; done
# shellcheck disable=SC2086  # a list of words
for width in 64 512; do throughput "devices_$width" 50 --devices $DEVICES --steps "${STEPS:-20000}"; done
throughput threads 60 --seconds 0.2 --repeats 2
if [ "$FIRST" = cuda ] && "$PYTHON" -c "import mujoco_warp" 2>>"$LOG"; then
    # Kernels of each model are compiled first.
    physics() { part "warp_$1" "$2" "$PYTHON" "$ROOT/benchmarks/device_physics.py" --sections "$1" --device cuda --results "$OUT" "${@:3}"; }
    physics stepping 120 --seconds 0.5 --stop-after "$((60 * BUDGET / 540))"
    physics training 120 --envs HalfCheetah-v4 --training-envs 2048 --training-steps 16 --total-timesteps 4000000
    accelerator "warp_tests" 120 warp_tests cuda
    physics agreement 120
fi
exit "$FAILED"
