#!/usr/bin/env bash
# The paper's procedure on AbdomenAtlas 3.0, from raw data to "U-VLM Seg(C+L)" of its Table 3.
#
#   ATLAS=/data/atlas bash runs/abdomen_atlas.sh [RECIPE...]
#
# ATLAS      AbdomenAtlas 3.0 Mini: image_only, mask_only, the table, TrainTestIDS
# TOKENIZER  tokenizer.json of Qwen3, the paper's vocabulary; without it one of 8,192 entries is
#            learned from the reports
# BASE       folder of Qwen3-4B, for the rows that train it
# OUT        where everything goes (default: abdomen_atlas); WORKERS processes that prepare
#            (default: 8)
# VIEWS      augmented views of every study that report training draws from (default: 4)
# LAUNCH     how training starts, `uvlm` unless given; on four GPUs
#            LAUNCH="accelerate launch --num_processes 4 -m uvlm.cli.main"
#
# RECIPE: rows of the ablations to train as well (`uvlm train --list abdomen_atlas`), or all. When
# the script runs again, finished steps are skipped and interrupted ones go on. The steps on
# synthetic studies, in minutes on a laptop, with scores that mean nothing:
#
#   TINY=1 OUT=trial bash runs/abdomen_atlas.sh
set -euo pipefail

TINY=${TINY:-} DATASET=abdomen_atlas OUT=${OUT:-abdomen_atlas}
WORKERS=${WORKERS:-8} VIEWS=${VIEWS:-4} LAUNCH=${LAUNCH:-uvlm}
shape=()
# shellcheck source=runs/paper_steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/paper_steps.sh"

catalog_of() {
    case $1 in
    */seg_c) echo "$OUT/data/coarse/catalog.csv" ;;
    */seg_fl) echo "$OUT/data/fine+lesions/catalog.csv" ;;
    *) echo "$OUT/data/coarse+lesions/catalog.csv" ;;
    esac
}

held_out_of() { echo test; }

make_studies() {
    rm -rf "$OUT/raw" # what an interrupted run left
    uvlm phantom make "$OUT/raw" --region abdomen --studies 16 --shape 32 64 64 \
        --min-prevalence 0.4
}

if [[ -n $TINY ]]; then
    step "synthetic studies" make_studies
    ATLAS=$OUT/raw WORKERS=1 VIEWS=2 shape=(--shape 32 64 64)
fi
: "${ATLAS:?give the folder of AbdomenAtlas 3.0}"

# One store for all tasks; its masks numbered in three ways, labels derived from the lesion masks.
step "prepare AbdomenAtlas" prepare abdomen-atlas "$ATLAS" \
    --scopes coarse coarse+lesions fine+lesions --out "$OUT/data" "${shape[@]}"

# Task 1: coarse anatomy and lesions. Task 2: three kinds of lesion, from the encoder of task 1.
learn abdomen_atlas/seg_cl
learn abdomen_atlas/seg_cl-cls

# Task 3: reports over the encoder of task 2, frozen, so what it sees is computed once and kept.
# Every stage of it enters the decoder, the deepest first.
learn abdomen_atlas/seg_cl-cls-rep+sc

score abdomen_atlas/seg_cl-cls-rep+sc
rows "$@"
say "all done after $SECONDS s; scores in $OUT/scores"
