#!/usr/bin/env bash
# The main job at the size of a laptop: synthetic chest studies, three tasks, scores, a report.
#
#   bash runs/quickstart.sh [CT]     CT: any CT the trained model shall report on as well
#
# Everything goes to the folder DEMO (default: demo). When the script runs again, finished steps are
# skipped and an interrupted preparation or training goes on. For a trial of the steps in a minute
# or two, whose scores mean nothing:
#
#   STUDIES=24 STEPS=4 DEMO=demo/trial bash runs/quickstart.sh
set -euo pipefail

CT=${1:-}
if [[ -n $CT ]]; then
    [[ -e $CT ]] || { echo "quickstart: $CT does not exist. Give the path of a CT." >&2; exit 2; }
    CT=$(cd "$(dirname "$CT")" && pwd)/$(basename "$CT")
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
STUDIES=${STUDIES:-1000}
STEPS=${STEPS:-}
DEMO=${DEMO:-demo}
mkdir -p "$DEMO/.done" "$DEMO/reports"

say() { printf '\n== %s\n' "$*"; }

# step NAME COMMAND...: run once, say how long it took, remember that it is done.
step() {
    local name=$1 start=$SECONDS
    shift
    if [[ -e $DEMO/.done/$name ]]; then
        say "$name: done before, $(<"$DEMO/.done/$name") s"
        return
    fi
    say "$name"
    "$@"
    echo $((SECONDS - start)) >"$DEMO/.done/$name"
    echo "$name took $((SECONDS - start)) s"
}

make_studies() {
    rm -rf "$DEMO/raw" # what an interrupted run left
    uvlm phantom make "$DEMO/raw" --studies "$STUDIES" --seed 0 --region chest \
        --shape 32 64 64 --min-prevalence 0.2
}

prepare_studies() {
    uvlm prepare ct-rate "$DEMO/raw" --out "$DEMO/data" --preset paper --shape 32 64 64 --workers 2
}

# train TASK [earlier TASK]
train() {
    local arguments=(--data.catalog "$DEMO/data/catalog.csv" --out "$DEMO/$1")
    [[ $# -lt 2 ]] || arguments+=(--init "$DEMO/$2/bundle")
    [[ -z $STEPS ]] || arguments+=(--loop.steps "$STEPS")
    [[ ! -e $DEMO/$1/config.json ]] || arguments+=(--resume)
    uvlm train "tiny_$1" "${arguments[@]}"
}

score() {
    rm -rf "$DEMO/scores"
    uvlm evaluate bundle --model "$DEMO/report/bundle" --catalog "$DEMO/data/catalog.csv" \
        --split valid --out "$DEMO/scores"
}

# report_on CT NAME: into a folder of its own, since nothing is ever overwritten.
report_on() {
    local number=1
    while [[ -e $DEMO/reports/$2-$number ]]; do number=$((number + 1)); done
    uvlm report "$1" --model "$DEMO/report/bundle" --out "$DEMO/reports/$2-$number"
    cat "$DEMO/reports/$2-$number/"*.md
    printf '\nfiles:\n'
    ls -1 "$DEMO/reports/$2-$number/"*
}

report_on_held_out() {
    report_on "$(find "$DEMO/raw/dataset/valid_fixed" -name '*.nii.gz' | sort | sed -n 1p)" held-out
}

step studies make_studies
step prepare prepare_studies
step segmentation train segmentation
step classification train classification segmentation
step report train report classification
step scores score
step held-out-report report_on_held_out
if [[ -n $CT ]]; then
    say "report on $CT"
    report_on "$CT" ct
fi
say "all done after $SECONDS s; scores in $DEMO/scores/scorecard.md, reports in $DEMO/reports"
