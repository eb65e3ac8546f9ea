#!/usr/bin/env bash
# Pre-training, fine-tuning and probing on photos of clothes (docs/results.md); goes on where it was stopped.
# The photos: data/clothing/{train,validation,test}/CLASS/*.jpg, or a link to them.
#   tools/experiments/clothing.sh BACKBONE ...      resnet18 and vit-tiny: a CPU; resnet50 and vit-small: a GPU
# Variables: OUT (work_dirs/clothing), PYTHON (python), SEEDS of fine-tuning ('0 1 2'), PRETRAIN_SEEDS (0),
# LABELS ('10pct 100pct'). Afterwards: python tools/experiments/clothing_summary.py --out PICTURE.png
set -euo pipefail
[ $# -gt 0 ] || { sed -n '3,6s/^# *//p' "$0" >&2 && exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
OUT=${OUT:-work_dirs/clothing}
PYTHON=${PYTHON:-python}

# NAME CONFIG [ARGUMENTS of tools/train.py]: train, then test the last checkpoint
run() {
    [ -e "$OUT/$1/metrics.json" ] && return
    "$PYTHON" tools/train.py "$2" --work-dir "$OUT/$1" --resume "${@:3}"
    "$PYTHON" tools/test.py "$2" "$(last "$1")" --work-dir "$OUT/$1/test" --out "$OUT/$1/metrics.json"
}

last() { echo "$OUT/$1/$(basename "$(cat "$OUT/$1/last_checkpoint")")"; }

# NAME CONFIG [ARGUMENTS of tools/knn.py]
neighbours() {
    [ -e "$OUT/$1.json" ] || "$PYTHON" tools/knn.py "$2" --out "$OUT/$1.json" "${@:3}"
}

# BACKBONE
compare() {
    for p in ${PRETRAIN_SEEDS:-0}; do
        run "$1/pretrain_$p" "configs/clothing/pretrain_$1.py" --cfg-options randomness.seed=$p
        a2mim=$(last "$1/pretrain_$p")
        neighbours "$1/knn_a2mim-$p" "configs/clothing/linear_$1.py" --pretrained "$a2mim"
    done
    neighbours "$1/knn_scratch" "configs/clothing/linear_$1.py"
    for protocol in linear ${LABELS:-10pct 100pct}; do
        case $protocol in
            linear) config=configs/clothing/linear_$1.py ;;
            100pct) config=configs/clothing/finetune_$1.py ;;
            *) config=configs/clothing/finetune_$1_$protocol.py ;;
        esac
        for seed in ${SEEDS:-0 1 2}; do
            run "$1/${protocol}_scratch_$seed" "$config" --cfg-options start=scratch randomness.seed=$seed
            for p in ${PRETRAIN_SEEDS:-0}; do
                run "$1/${protocol}_a2mim-${p}_$seed" "$config" --cfg-options randomness.seed=$seed \
                    --pretrained "$(last "$1/pretrain_$p")"
            done
        done
    done
}

for backbone in "$@"; do
    compare "$backbone"
done
