# What runs/ct_rate.sh and runs/abdomen_atlas.sh share. Sourced by them, after OUT and TINY are set.
# They define catalog_of RECIPE and held_out_of RECIPE: what a recipe trains and is scored on.

# shellcheck source=runs/steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

VOCABULARY=(--model.decoder.vocab-size 8192)
[[ -z ${TOKENIZER:-} ]] || VOCABULARY=(--tokenizer "$TOKENIZER")

# prepare ARGUMENTS...: with exit code 3 some studies could not be used, which errors.csv explains.
prepare() {
    uvlm prepare "$@" --no-nnunet --workers "$WORKERS" || [[ $? == 3 ]]
}

# before RECIPE: the recipe whose bundle it starts from, or nothing: d/a-b-c+x starts from d/a-b.
before() {
    local tasks=${1%%+*}
    [[ $tasks != *-* ]] || echo "${tasks%-*}"
}

# arguments RECIPE: into the array `words` of the caller, for `uvlm train` and `uvlm features`.
arguments() {
    local recipe=$1 start
    start=$(before "$recipe")
    words=(--data.catalog "$(catalog_of "$recipe")")
    [[ -z $start ]] || words+=(--init "$OUT/models/$start/bundle")
    case $recipe in
    *rep+q4b_*) words+=(--model.decoder.base "${BASE:?$recipe needs the folder of Qwen3-4B}") ;;
    *rep*) words+=("${VOCABULARY[@]}") ;;
    esac
    [[ -n $TINY ]] || return 0
    words+=(--data.shape 32 64 64 --data.workers 0 --data.val-fraction 0.3)
    words+=(--model.encoder.features 4 8 8 8 8 8 --model.encoder.blocks 1 1 1 1 1 1)
    words+=(--loop.steps 2 --loop.validate-studies 2 --loop.precision no)
    case $recipe in
    */seg_c | */seg_?l) words+=(--data.patch 32 64 64) ;;
    *rep+q4b_*) words+=(--model.shape 32 64 64) ;;
    *rep*) words+=(--model.shape 32 64 64 --model.decoder.width 32 --model.decoder.ffn 64) ;;
    esac
}

# bank_of RECIPE: the folder with what its frozen encoder sees, or nothing where the encoder learns
# or is not trained at all. Recipes that look at the same stages of the same encoder share one.
bank_of() {
    local start
    start=$(before "$1")
    [[ -n $start && $1 == *rep* && $1 != *+unfrozen* ]] || return 0
    case $1 in
    *+authors*) echo "$OUT/banks/${1//+/.}" ;;
    *+sc*) echo "$OUT/banks/$start.sc" ;;
    *+vt3072*) echo "$OUT/banks/$start.vt3072" ;;
    *) echo "$OUT/banks/$start" ;;
    esac
}

look() {
    local words
    arguments "$1"
    uvlm features "$1" "${words[@]}" --views "$VIEWS" --out "$(bank_of "$1")"
}

train() {
    local words bank out=$OUT/models/$1
    arguments "$1"
    bank=$(bank_of "$1")
    [[ -z $bank ]] || words+=(--data.bank "$bank")
    [[ ! -e $out/config.json ]] || words+=(--resume)
    $LAUNCH train "$1" "${words[@]}" --out "$out"
}

# learn RECIPE: the recipes before it, then it, from their bundle.
learn() {
    local start bank
    start=$(before "$1")
    [[ -z $start || -e $(mark "train $start") ]] || learn "$start"
    bank=$(bank_of "$1")
    [[ -z $bank ]] || step "features ${bank#"$OUT/banks/"}" look "$1"
    step "train $1" train "$1"
}

evaluate() {
    local words=(--model "$OUT/models/$1/bundle" --catalog "$(catalog_of "$1")")
    [[ $1 != *rep+q4b_* ]] || words+=(--base "$BASE")
    rm -rf "$OUT/scores/$1" # what an interrupted run left
    mkdir -p "$(dirname "$OUT/scores/$1")"
    uvlm evaluate bundle "${words[@]}" --split "$(held_out_of "$1")" --out "$OUT/scores/$1"
}

score() { step "score $1" evaluate "$1"; }

# rows NAME...: more rows of the paper's tables, each with what it starts from; "all" for all.
rows() {
    local recipe
    [[ ${1:-} != all ]] || set -- $(uvlm train --list "$DATASET/" | grep -o "^$DATASET/[^ ]*")
    for recipe in "$@"; do
        learn "$recipe"
        score "$recipe"
    done
}
