#!/usr/bin/env bash
# The published README's commands, in their order: segmentation with stock nnU-Net, then labels and
# reports from its encoder.
#
#   RAW=/data/nnUNet_raw/Dataset501_Organs CATALOG=/data/prepared/catalog.csv bash runs/nnunet.sh
#
# RAW      an nnU-Net raw dataset: images, masks and dataset.json
# CATALOG  labels and reports, written by `uvlm prepare`
# REGION   chest (default) or abdomen, of both
# DEVICE   cuda (default) or cpu
# OUT      where everything goes (default: nnunet)
#
# When the script runs again, finished steps are skipped and trainings go on. The steps on synthetic
# studies (or on RAW and CATALOG, if given), two short epochs each, in minutes on a laptop:
#
#   TINY=1 OUT=trial bash runs/nnunet.sh
set -euo pipefail

TINY=${TINY:-} REGION=${REGION:-chest} OUT=${OUT:-nnunet} RAW=${RAW:-} CATALOG=${CATALOG:-}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
# shellcheck source=runs/steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/steps.sh"
export nnUNet_raw=$OUT/nnUNet_raw
export nnUNet_preprocessed=$OUT/nnUNet_preprocessed
export nnUNet_results=$OUT/nnUNet_results
mkdir -p "$nnUNet_raw" "$nnUNet_preprocessed" "$nnUNet_results"

# Stock nnU-Net finds the trainers here. The second line matters only where timm or torchvision is
# missing.
nnUNet_extTrainer=$(uvlm nnunet path 2>/dev/null)
PYTHONPATH=$(uvlm nnunet path --startup)${PYTHONPATH:+:$PYTHONPATH}
export nnUNet_extTrainer PYTHONPATH

DEVICE=${DEVICE:-$([[ -n $TINY ]] && echo cpu || echo cuda)}
short=() seg_size=() planning=()
if [[ -n $TINY ]]; then
    short=(--set num_epochs=2 --set num_iterations_per_epoch=2 --set num_val_iterations_per_epoch=1)
    short+=(--set 'features_per_stage=[4,8,8,8]' --set 'n_blocks_per_stage=[1,1,1,1]')
    seg_size=(--patch 24 48 48)
    planning=(-npfp 1 -np 1)
    export nnUNet_n_proc_DA=1 nnUNet_def_n_proc=1
fi

make_raw() {
    [[ -n $RAW || -n $TINY ]] || { echo "nnunet.sh: RAW is not set" >&2; exit 2; }
    if [[ -n $RAW ]]; then
        ln -sfn "$(cd "$RAW" && pwd)" "$nnUNet_raw/$SEG"
    else
        rm -rf "${nnUNet_raw:?}/$SEG"
        uvlm phantom make "$nnUNet_raw/$SEG" --layout nnunet-raw --studies 8 --shape 32 48 48
    fi
}

make_catalog() {
    [[ -n $TINY ]] || { echo "nnunet.sh: CATALOG is not set" >&2; exit 2; }
    rm -rf "$OUT/studies"
    uvlm phantom make "$OUT/studies" --studies 20 --shape 32 48 48 --min-prevalence 0.2
    uvlm prepare ct-rate "$OUT/studies" --out "$OUT/data" --shape 32 48 48 --no-nnunet
}

SEG=$([[ -n $RAW ]] && basename "$RAW" || echo Dataset501_Organs)
SEG_ID=$((10#${SEG:7:3}))
TASKS=Dataset502_Reports
[[ $SEG_ID != 502 ]] || TASKS=Dataset503_Reports
TASKS_ID=$((10#${TASKS:7:3}))
SEG_PLANS=UVLMPlans_${REGION}_seg CLS_PLANS=UVLMPlans_${REGION}_cls
REPORT_PLANS=UVLMPlans_${REGION}_report
fold_of() { echo "$nnUNet_results/$1/$2__$3__3d_fullres/fold_0"; }
SEG_FOLD=$(fold_of "$SEG" nnUNetTrainer_ResEncoderUNet "$SEG_PLANS")
CLS_FOLD=$(fold_of "$TASKS" nnUNetTrainer_UVLM "$CLS_PLANS")
REPORT_FOLD=$(fold_of "$TASKS" nnUNetTrainer_UVLM "$REPORT_PLANS")

# Stage 1. Segmentation: nnU-Net's own preparation, training and prediction.
plan() {
    nnUNetv2_plan_and_preprocess -d "$SEG_ID" -c 3d_fullres --verify_dataset_integrity \
        "${planning[@]}"
}

segmentation_plan() {
    uvlm nnunet plans seg --dataset "$SEG" --region "$REGION" "${seg_size[@]}" "${short[@]}"
}

segmentation() {
    local go_on=()
    [[ ! -d $SEG_FOLD ]] || go_on=(--c)
    nnUNetv2_train "$SEG_ID" 3d_fullres 0 -tr nnUNetTrainer_ResEncoderUNet -p "$SEG_PLANS" \
        -device "$DEVICE" "${go_on[@]}"
}

predict() {
    [[ -d $nnUNet_raw/$SEG/imagesTs ]] || { echo "$SEG has no imagesTs"; return; }
    nnUNetv2_predict -i "$nnUNet_raw/$SEG/imagesTs" -o "$OUT/masks" -d "$SEG_ID" -c 3d_fullres \
        -f 0 -tr nnUNetTrainer_ResEncoderUNet -p "$SEG_PLANS" -device "$DEVICE"
}

# Stages 2 and 3. Labels and reports: prepared by uvlm, trained on its catalog.
tasks_plans() {
    local decoder=()
    [[ -z $TINY ]] || decoder=(--set llm_embed_dim=32 --set num_heads=2 --set ffn_dim=64)
    uvlm nnunet plans cls --dataset "$TASKS" --catalog "$CATALOG" "${short[@]}"
    uvlm nnunet plans report --dataset "$TASKS" --catalog "$CATALOG" "${short[@]}" "${decoder[@]}"
}

# learn PLANS MODE FOLD EARLIER_FOLD
learn() {
    local go_on=()
    [[ ! -d $3/run ]] || go_on=(--c)
    uvlm_train "$TASKS_ID" 3d_fullres 0 -tr nnUNetTrainer_UVLM -p "$1" --mode "$2" \
        --pretrained_encoder_checkpoint_path "$4/checkpoint_best.pth" -device "$DEVICE" \
        "${go_on[@]}"
}

score() {
    rm -rf "$OUT/scores" # what an interrupted run left
    uvlm evaluate bundle --model "$REPORT_FOLD/checkpoint_best.pth" --catalog "$CATALOG" \
        --split valid --out "$OUT/scores"
}

step raw make_raw
step plan plan
step segmentation-plan segmentation_plan
step segmentation segmentation
step predict predict
if [[ -z $CATALOG ]]; then
    step catalog make_catalog
    CATALOG=$OUT/data/catalog.csv
fi
step plans tasks_plans
step classification learn "$CLS_PLANS" only_cls "$CLS_FOLD" "$SEG_FOLD"
step report learn "$REPORT_PLANS" only_report "$REPORT_FOLD" "$CLS_FOLD"
step scores score
say "all done after $SECONDS s; the model is $REPORT_FOLD/bundle"
