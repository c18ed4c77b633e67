#!/bin/bash
# Usage: bash .card1.sh [MINILM_FOLDER]; writes under $OUT as it goes. About 4 minutes.
OUT=${OUT:-out/card1}; MINILM=${1:+--minilm $1}; PY=${PY:-python3}
export PYTHONPATH=$PWD; mkdir -p $OUT; began=$(date +%s)
say() { echo "== $(( $(date +%s) - began ))s $*" | tee -a $OUT/log.txt; }
test_part() { timeout 80 $PY -m pytest tests/nativebert/test_cuda.py -q -x -o addopts= -p no:timeout -p no:cacheprovider "${@:2}" > $OUT/test-$1.txt 2>&1
              say "test $1: $(tail -1 $OUT/test-$1.txt)"; }
say tests
test_part marked -m cuda & test_part residual -k "residual or measured or buffer or norm" & test_part bits -k "bits_of_a_product or attention" &
test_part bert -k "company and (bert or mpnet)" & test_part modern -k "company and modernbert" & test_part golden -k "golden and (bert or mpnet or modernbert or albert)" &
wait
say sweep
timeout 110 $PY -m benchmarks gpu --sections ceilings,tiles,attention,groups --out $OUT/sweep > $OUT/sweep.txt 2>&1; say "sweep rc $?"
grep -E " tile |attention |group |failed|section" $OUT/sweep.txt | cut -c1-330
say benchmark
timeout 110 $PY -m benchmarks gpu --sections ceilings,encoders,squad,latency,texts $MINILM --out $OUT/bench > $OUT/bench.txt 2>&1; say "bench rc $?"
grep -vE "Warning|^  " $OUT/bench.txt | cut -c1-260
