#!/usr/bin/env bash
# Pre-trains, fine-tunes and probes on photos of clothes; see README.md. The same command goes on after a stop.
#   projects/clothing/run.sh BACKBONE ...      resnet18 and vit-tiny: a CPU; resnet50 and vit-small: a GPU
# The photos lie in data/clothing/{train,validation,test}/CLASS/*.jpg.
# Variables: OUT (work_dirs/clothing), PYTHON (python), SEEDS of fine-tuning ('0 1 2'), PRETRAIN_SEEDS (0),
# LABELS ('10pct 100pct'). Then: python projects/clothing/summary.py --out PICTURE.png
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,6s/^# *//p' "$0" >&2 && exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
CONFIGS=projects/clothing/configs
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
        run "$1/pretrain_$p" "$CONFIGS/pretrain_$1.py" --cfg-options randomness.seed=$p
        a2mim=$(last "$1/pretrain_$p")
        neighbours "$1/knn_a2mim-$p" "$CONFIGS/linear_$1.py" --pretrained "$a2mim"
    done
    neighbours "$1/knn_scratch" "$CONFIGS/linear_$1.py"
    for protocol in linear ${LABELS:-10pct 100pct}; do
        case $protocol in
            linear) config=$CONFIGS/linear_$1.py ;;
            100pct) config=$CONFIGS/finetune_$1.py ;;
            *) config=$CONFIGS/finetune_$1_$protocol.py ;;
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
