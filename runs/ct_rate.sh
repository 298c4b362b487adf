#!/usr/bin/env bash
# The paper's procedure on CT-RATE, from raw data to the row "U-VLM" of its Table 2.
#
#   CT_RATE=/data/ct-rate REX=/data/rex ANATOMY=/data/anatomy bash runs/ct_rate.sh [RECIPE...]
#
# CT_RATE    CT-RATE in its own layout       REX      ReXGroundingCT (dataset.json, segmentations)
# ANATOMY    outputs of TotalSegmentator, ATM22 and HiPaS for the studies of ReXGroundingCT
# TOKENIZER  tokenizer.json of Qwen3, the paper's vocabulary; without it one of 8,192 entries is
#            learned from the reports
# BASE       folder of Qwen3-4B, for the rows that train it
# OUT        where everything goes (default: ct_rate); WORKERS processes that prepare (default: 8)
# VIEWS      augmented views of every study that report training draws from (default: 4)
# LAUNCH     how training starts, `uvlm` unless given; on four GPUs
#            LAUNCH="accelerate launch --num_processes 4 -m uvlm.cli.main"
#
# RECIPE: rows of the ablations to train as well (`uvlm train --list ct_rate`), or all. When the
# script runs again, finished steps are skipped and interrupted ones go on. The steps on synthetic
# studies, in minutes on a laptop, with scores that mean nothing:
#
#   TINY=1 OUT=trial bash runs/ct_rate.sh
set -euo pipefail

TINY=${TINY:-} DATASET=ct_rate OUT=${OUT:-ct_rate}
WORKERS=${WORKERS:-8} VIEWS=${VIEWS:-4} LAUNCH=${LAUNCH:-uvlm}
shape=()
# shellcheck source=runs/paper_steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/paper_steps.sh"

catalog_of() {
    case $1 in
    */seg_c) echo "$OUT/data/rexgrounding/coarse/catalog.csv" ;;
    */seg_cl) echo "$OUT/data/rexgrounding/coarse+lesions/catalog.csv" ;;
    */seg_fl) echo "$OUT/data/rexgrounding/fine+lesions/catalog.csv" ;;
    *) echo "$OUT/data/ct_rate/catalog.csv" ;;
    esac
}

held_out_of() { echo valid; }

make_studies() {
    rm -rf "$OUT/raw" # what an interrupted run left
    uvlm phantom make "$OUT/raw" --layout rexgrounding --studies 16 --shape 32 64 64 \
        --min-prevalence 0.2
}

if [[ -n $TINY ]]; then
    step "synthetic studies" make_studies
    REX=$OUT/raw CT_RATE=$OUT/raw/ct_rate ANATOMY=$OUT/raw/anatomy
    WORKERS=1 VIEWS=2 shape=(--shape 32 64 64)
fi
: "${CT_RATE:?give the folder of CT-RATE}" "${REX:?give the folder of ReXGroundingCT}"
: "${ANATOMY:?give the folder of the anatomy for ReXGroundingCT}"

# Masks for task 1, numbered in three ways; labels and reports for tasks 2 and 3. The studies that
# ReXGroundingCT holds out lie in CT-RATE's training set and must not be trained on there.
step "prepare ReXGroundingCT" prepare rexgrounding "$REX" --images "$CT_RATE" \
    --anatomy "$ANATOMY" --scopes coarse coarse+lesions fine+lesions \
    --out "$OUT/data/rexgrounding" "${shape[@]}"
step "prepare CT-RATE" prepare ct-rate "$CT_RATE" --no-masks \
    --held-out "$OUT/data/rexgrounding/held_out.csv" --out "$OUT/data/ct_rate" "${shape[@]}"

# Task 1: fine anatomy and lesions. Task 2: 18 abnormalities, from the encoder of task 1.
learn ct_rate/seg_fl
learn ct_rate/seg_fl-cls

# Task 3: reports over the encoder of task 2, frozen, so what it sees is computed once and kept.
# Every stage of it enters the decoder, the deepest first.
learn ct_rate/seg_fl-cls-rep+sc

score ct_rate/seg_fl-cls-rep+sc
rows "$@"
say "all done after $SECONDS s; scores in $OUT/scores"
