#!/bin/bash
# The whole benchmark, and once with measured tiles. Usage: bash .card2.sh [MINILM_FOLDER]
OUT=${OUT:-out/card2}; MINILM=${1:+--minilm $1}; PY=${PY:-python3}
export PYTHONPATH=$PWD; mkdir -p $OUT
timeout 260 $PY -m benchmarks gpu $MINILM --out $OUT/full > $OUT/full.txt 2>&1; echo "full rc $?"; grep -vE "Warning|^  " $OUT/full.txt | cut -c1-240
timeout 90 $PY -m benchmarks gpu --warmup --sections ceilings,encoders $MINILM --out $OUT/warm > $OUT/warm.txt 2>&1; echo "warm rc $?"; grep -vE "Warning|^  " $OUT/warm.txt | cut -c1-240
cp ~/.triton/nativebert-tiles.json $OUT/ 2>/dev/null
