#!/usr/bin/env bash
# HSENet's procedure on CT-RATE and RadGenome-ChestCT, from raw data to scores of retrieval, reports
# and answers.
#
#   CT_RATE=/data/ct-rate RADGENOME=/data/radgenome BERT=/models/bert \
#       BIOMEDCLIP=/models/biomedclip PHI4=/models/Phi-4-mini-instruct bash runs/hsenet.sh [CT]
#
# CT         any CT that the trained models shall be asked about as well, and find studies like it
# CT_RATE    CT-RATE in its own layout: both stages and the reports learn from it
# RADGENOME  tables of RadGenome-ChestCT, with its volumes unless CT_RATE has them: the questions.
#            Without CT_RATE all learns from it, without RADGENOME no questions are learned
# BERT       text tower: config.json, model.safetensors, tokenizer.json
# BIOMEDCLIP 2D encoder: open_clip_model.safetensors, open_clip_config.json
# PHI4       Phi-4-mini, or another language model of transformers
# OUT        where everything goes (default: hsenet); WORKERS processes that prepare (default: 8)
# LAUNCH     how training starts, `uvlm` unless given; on four GPUs
#            LAUNCH="accelerate launch --num_processes 4 -m uvlm.cli.main"
#
# When the script runs again, finished steps are skipped and interrupted ones go on. For a trial on
# synthetic studies in a minute or two, with a random 2D encoder, whose scores mean nothing:
#
#   SIZE=tiny OUT=trial bash runs/hsenet.sh
#
# There STUDIES says how many studies, STEPS how many steps each training takes (24 and 4). For small
# models that learn: STUDIES=1000 and STEPS= (nothing: the recipes' own).
set -euo pipefail

SIZE=${SIZE:-paper} OUT=${OUT:-hsenet} WORKERS=${WORKERS:-8} LAUNCH=${LAUNCH:-uvlm} CT=${1:-}
[[ $SIZE == paper || $SIZE == tiny ]] || { echo "hsenet: SIZE is paper or tiny" >&2; exit 2; }
[[ -z $CT || -e $CT ]] || { echo "hsenet: $CT does not exist. Give the path of a CT." >&2; exit 2; }
# shellcheck source=runs/steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

prefix='' shape=() text=() language=() base=() steps=() answer=() resamples=()

make_studies() {
    rm -rf "$OUT/raw" # what an interrupted run left
    uvlm phantom make "$OUT/raw" --layout radgenome --studies "${STUDIES:-24}" --seed 0 \
        --shape 32 64 64 --min-prevalence 0.2
}

make_2d_encoder() {
    python - "$BIOMEDCLIP" <<'PYTHON'
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from uvlm.models.slice_encoder import SliceEncoder
from uvlm.models.tower_config import SliceEncoderConfig

torch.manual_seed(0)
folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
encoder = SliceEncoder(SliceEncoderConfig(size=64, patch=8, width=16, layers=2, heads=4, mlp=32))
settings = {
    "model_cfg": {"vision_cfg": {"image_size": 64, "head_width": 4}},
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}
(folder / "open_clip_config.json").write_text(json.dumps(settings))
save_file(encoder.state_dict(), folder / "model.safetensors")
PYTHON
}

if [[ $SIZE == tiny ]]; then
    CT_RATE='' RADGENOME=$OUT/raw BIOMEDCLIP=$OUT/2d WORKERS=1 prefix=tiny_ STEPS=${STEPS-4}
    step "synthetic studies" make_studies
    step "2D encoder" make_2d_encoder
    shape=(--shape 32 64 64)
    [[ -z $STEPS ]] || steps=(--loop.steps "$STEPS")
    [[ -z $STEPS ]] || answer=(--max-new-tokens 16)
    resamples=(--resamples 100)
else
    [[ -n ${CT_RATE:-}${RADGENOME:-} ]] || {
        echo "hsenet: give the folder of CT-RATE (CT_RATE), RadGenome (RADGENOME), or both" >&2
        exit 2
    }
    : "${BERT:?give the folder of a BERT}" "${BIOMEDCLIP:?give the folder of BiomedCLIP}"
    : "${PHI4:?give the folder of Phi-4-mini}"
    text=(--model.text.base "$BERT") language=(--model.decoder.base "$PHI4") base=(--base "$PHI4")
fi

# What both stages and the reports learn from; questions are RadGenome's.
reports=$([[ -n ${CT_RATE:-} ]] && echo ct_rate || echo radgenome)
catalog() { echo "$OUT/data/$1/catalog.csv"; }

# prepare NAME SOURCE ARGUMENTS...: with exit code 3 some studies could not be used, which
# errors.csv explains.
prepare() {
    local name=$1
    shift
    uvlm prepare "$@" --preset hsenet "${shape[@]}" --no-masks --no-nnunet --workers "$WORKERS" \
        --out "$OUT/data/$name" || [[ $? == 3 ]]
}

# look NAME: what the 2D encoder says of each study's slices, computed once.
look() { $LAUNCH slices "$(catalog "$1")" --encoder "$BIOMEDCLIP" --out "$OUT/slices/$1"; }

# train TASK DATASET ARGUMENTS...
train() {
    local task=$1 out=$OUT/models/$1 words=(--data.catalog "$(catalog "$2")")
    [[ $task == clip ]] || words+=(--data.slices "$OUT/slices/$2" --slice-encoder "$BIOMEDCLIP")
    shift 2
    [[ ! -e $out/config.json ]] || words+=(--resume)
    $LAUNCH train "${prefix}hsenet_$task" "${words[@]}" "${steps[@]}" "$@" --out "$out"
}

# retrieve TASK: volumes and reports of the held-out studies in the space of a stage, and its score.
retrieve() {
    local index=$OUT/index/$1.npz words=()
    [[ $1 == clip ]] || words=(--slices "$OUT/slices/$reports")
    rm -rf "$index" "${index%.npz}.json" "$OUT/scores/retrieval_$1" # what an interrupted run left
    mkdir -p "$OUT/index" "$OUT/scores"
    uvlm retrieve index "$(catalog "$reports")" --bundle "$OUT/models/$1/bundle" --split valid \
        "${words[@]}" --out "$index" || [[ $? == 3 ]]
    uvlm evaluate retrieval --references "$(catalog "$reports")" --split valid \
        --predictions "$index" "${resamples[@]}" --out "$OUT/scores/retrieval_$1"
}

write_reports() {
    rm -rf "$OUT/reports"
    uvlm evaluate bundle --model "$OUT/models/report/bundle" "${base[@]}" \
        --catalog "$(catalog "$reports")" --split valid --out "$OUT/reports"
}

score_reports() {
    rm -rf "$OUT/scores/report"
    uvlm evaluate report --references "$(catalog "$reports")" --split valid \
        --predictions "$OUT/reports/predictions.csv" --training "$(catalog "$reports")" \
        "${resamples[@]}" --out "$OUT/scores/report"
}

# All questions about a study over one look at it.
answer_questions() {
    rm -f "$OUT/answers.jsonl"
    uvlm ask "$(catalog radgenome)" --bundle "$OUT/models/vqa/bundle" "${base[@]}" --split valid \
        "${answer[@]}" --out "$OUT/answers.jsonl" || [[ $? == 3 ]]
}

score_answers() {
    rm -rf "$OUT/scores/vqa"
    uvlm evaluate vqa --references "$OUT/data/radgenome/vqa.csv" --split valid \
        --predictions "$OUT/answers.jsonl" --training "$OUT/data/radgenome/vqa.csv" \
        "${resamples[@]}" --out "$OUT/scores/vqa"
}

# Data: volumes of 1x32x256x256, and features of 32 slices of each.
if [[ -n ${CT_RATE:-} ]]; then
    step "prepare CT-RATE" prepare ct_rate ct-rate "$CT_RATE"
    step "slices of CT-RATE" look ct_rate
fi
if [[ -n ${RADGENOME:-} ]]; then
    images=()
    [[ -z ${CT_RATE:-} ]] || images=(--images "$CT_RATE")
    step "prepare RadGenome" prepare radgenome radgenome "$RADGENOME" "${images[@]}"
    step "slices of RadGenome" look radgenome
fi

# Stage 1: volumes and reports in one space. Stage 2: the same, patches gated by slices.
step "train clip" train clip "$reports" "${text[@]}"
step "retrieval by stage 1" retrieve clip
step "train 2e3" train 2e3 "$reports" "${text[@]}" --init "$OUT/models/clip/bundle"
step "retrieval by stage 2" retrieve 2e3

# Both towers, frozen, each packed to 128 tokens before a language model.
step "train report" train report "$reports" "${language[@]}" --init "$OUT/models/2e3/bundle"
step "write reports" write_reports
step "score reports" score_reports
if [[ -n ${RADGENOME:-} ]]; then
    step "train vqa" train vqa radgenome "${language[@]}" --init "$OUT/models/2e3/bundle"
    step "answer questions" answer_questions
    step "score answers" score_answers
fi

if [[ -n $CT ]]; then
    say "$CT"
    [[ -z ${RADGENOME:-} ]] || uvlm ask "$CT" "Is there a pleural effusion?" \
        "Which abnormalities does the lung show?" --bundle "$OUT/models/vqa/bundle" "${base[@]}" \
        "${answer[@]}"
    uvlm retrieve search "$OUT/index/2e3.npz" --study "$CT" --bundle "$OUT/models/2e3/bundle" \
        --top 3
fi
say "all done after $SECONDS s; models in $OUT/models, scores in $OUT/scores"
