#!/usr/bin/env bash
# Trains networks from scratch, from SimMIM and from A2MIM on photos of clothes, then compares them by the
# paper's analyses; see README.md. The same command goes on after a stop.
#   projects/clothing/analysis.sh BACKBONE ...      resnet18 or vit-tiny
# The photos lie in data/clothing/{train,validation,test}/CLASS/*.jpg.
# Variables: OUT (work_dirs/analysis), PYTHON (python).
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,6s/^# *//p' "$0" >&2 && exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
CONFIGS=projects/clothing/configs
OUT=${OUT:-work_dirs/analysis}
PYTHON=${PYTHON:-python}
PHOTOS=data/clothing/test

last() { echo "$OUT/$1/$(basename "$(cat "$OUT/$1/last_checkpoint")")"; }

# NAME CONFIG [ARGUMENTS of tools/train.py]: train, then test the last checkpoint
run() {
    [ -e "$OUT/$1/metrics.json" ] && return
    "$PYTHON" tools/train.py "$2" --work-dir "$OUT/$1" --resume "${@:3}"
    "$PYTHON" tools/test.py "$2" "$(last "$1")" --work-dir "$OUT/$1/test" --out "$OUT/$1/metrics.json"
}

# BACKBONE EPOCHS [SEED ...]: pre-trainings, and fine-tunings from all labels
train() {
    local finetune=$CONFIGS/finetune_$1.py config
    for start in simmim a2mim; do
        config=$CONFIGS/pretrain_$1.py
        [ $start = simmim ] && config=$CONFIGS/pretrain_$1_simmim.py
        run "$1/pretrain_$start" "$config" --cfg-options train_cfg.max_epochs="$2"
    done
    for seed in "${@:3}"; do
        run "$1/finetune_scratch_$seed" "$finetune" --cfg-options start=scratch randomness.seed="$seed"
        for start in simmim a2mim; do
            run "$1/finetune_${start}_$seed" "$finetune" --pretrained "$(last "$1/pretrain_$start")" \
                --cfg-options randomness.seed="$seed"
        done
    done
}

# BACKBONE FORWARD_PASSES [SEED ...]
compare() {
    local finetune=$CONFIGS/finetune_$1.py pretrain=$CONFIGS/pretrain_$1.py
    local networks=() names=() photos=() folder files
    for folder in "$PHOTOS"/*/; do
        files=("$folder"*.jpg)
        photos+=("${files[0]}")
    done
    for start in scratch simmim a2mim; do
        for seed in "${@:3}"; do
            networks+=("$finetune" "$(last "$1/finetune_${start}_$seed")")
            names+=("$start")
        done
    done
    "$PYTHON" tools/analysis/fourier.py "$pretrain" random "${networks[@]:0:2}" \
        "$CONFIGS/pretrain_$1_simmim.py" "$(last "$1/pretrain_simmim")" \
        "$pretrain" "$(last "$1/pretrain_a2mim")" \
        --names random supervised simmim a2mim --images $PHOTOS --out "$OUT/$1/fourier"
    "$PYTHON" tools/reconstruct.py "$(last "$1/pretrain_a2mim")" \
        --compare "$(last "$1/pretrain_simmim")" --names a2mim simmim \
        --images "${photos[@]}" --count 6 --out "$OUT/$1/reconstructions.png"
    "$PYTHON" tools/analysis/occlusion.py "${networks[@]}" --names "${names[@]}" --images $PHOTOS \
        --patch-size 8 --out "$OUT/$1/occlusion"
    networks=() names=()
    for start in scratch simmim a2mim; do
        for seed in "${@:3:2}"; do # two at most, for time
            networks+=("$finetune" "$(last "$1/finetune_${start}_$seed")")
            names+=("$start")
        done
    done
    "$PYTHON" tools/analysis/interaction.py "${networks[@]}" --names "${names[@]}" --images $PHOTOS \
        --grid 8 --count 25 --pairs 8 --budget "$2" --out "$OUT/$1/interaction"
}

for backbone in "$@"; do
    case $backbone in
        resnet18)
            train resnet18 15 0 1 2
            compare resnet18 120000 0 1 2
            ;;
        vit-tiny)
            train vit-tiny 45 0
            compare vit-tiny 30000 0
            ;;
        *) echo "no experiment with $backbone" >&2 && exit 2 ;;
    esac
done
