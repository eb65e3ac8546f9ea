#!/usr/bin/env bash
# Pre-trains on photos of nuclei and clothes, then trains UperNet (three seeds) and Mask R-CNN on the nuclei, each
# from scratch and from A2MIM; see README.md. The same command goes on after a stop.
#   projects/nuclei/run.sh [PART ...]      resnet18, vit-tiny, detection-scratch, detection-a2mim, steps; default: all
# Parts may run side by side, except resnet18 and detection-a2mim, which begin with the same pre-training.
# Variables: OUT (work_dirs/nuclei), PYTHON (python).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
CONFIGS=projects/nuclei/configs
OUT=${OUT:-work_dirs/nuclei}
PYTHON=${PYTHON:-python}

# NAME CONFIG [arguments of tools/train.py]
pretrain() {
    [ -e "$OUT/$1/done" ] && return
    "$PYTHON" tools/train.py "$2" --work-dir "$OUT/$1" --resume "${@:3}"
    touch "$OUT/$1/done"
}

# NAME CONFIG [arguments of tools/train.py]
transfer() {
    [ -e "$OUT/$1/metrics.json" ] && return
    "$PYTHON" tools/train.py "$2" --work-dir "$OUT/$1" --overwrite "${@:3}"
    "$PYTHON" tools/test.py "$2" "$OUT/$1/$(basename "$(cat "$OUT/$1/last_checkpoint")")" \
        --work-dir "$OUT/$1/test" --out "$OUT/$1/metrics.json"
}

# BACKBONE EPOCHS
segmentation() {
    pretrain "pretrain_$1" "$CONFIGS/pretrain_$1.py"
    for seed in 0 1 2; do
        transfer "upernet_$1_scratch_$seed" "$CONFIGS/upernet_$1.py" --cfg-options randomness.seed=$seed
        transfer "upernet_$1_a2mim_$seed" "$CONFIGS/upernet_$1.py" --cfg-options randomness.seed=$seed \
            --pretrained "$OUT/pretrain_$1/epoch_$2.pth"
    done
}

detection_scratch() {
    transfer mask-rcnn_scratch "$CONFIGS"/mask-rcnn_resnet18-fpn.py
}

detection_a2mim() {
    pretrain pretrain_resnet18 "$CONFIGS"/pretrain_resnet18.py
    transfer mask-rcnn_a2mim "$CONFIGS"/mask-rcnn_resnet18-fpn.py \
        --pretrained "$OUT/pretrain_resnet18/epoch_12.pth"
}

# NAME PRETRAINING_CONFIG DETECTION_CONFIG: the full-size models, 20 steps each, the second from the first's weights
twenty_steps() {
    pretrain "$1/pretrain" "$2" --cfg-options train_dataloader.dataset.data_root=data/nuclei/images/train \
        train_dataloader.dataset.indices=160 train_dataloader.batch_size=8 train_dataloader.num_workers=1 \
        train_cfg.max_epochs=1 default_hooks.logger.interval=5
    [ -e "$OUT/$1/detector/done" ] && return
    "$PYTHON" tools/train.py "$3" --work-dir "$OUT/$1/detector" --overwrite --pretrained "$OUT/$1/pretrain/epoch_1.pth" \
        --cfg-options train_dataloader.dataset.data_root=data/nuclei/ train_dataloader.dataset.indices=40 \
        train_dataloader.dataset.ann_file=annotations/instances_train.json train_dataloader.num_workers=1 \
        train_dataloader.dataset.data_prefix.img=images/train/ "train_dataloader.dataset.metainfo.classes=('nucleus',)" \
        "train_dataloader.dataset.pipeline.2.scales=[(333,200)]" model.roi_head.bbox_head.num_classes=1 \
        model.roi_head.mask_head.num_classes=1 model.train_cfg.rcnn.sampler.num=64 train_cfg.max_epochs=1 default_hooks.logger.interval=5 \
        val_dataloader=None val_cfg=None val_evaluator=None default_hooks.checkpoint.save_optimizer=False
    touch "$OUT/$1/detector/done"
}

for part in ${@:-resnet18 vit-tiny detection-scratch detection-a2mim steps}; do
    case $part in
        resnet18) segmentation resnet18 12 ;;
        vit-tiny) segmentation vit-tiny 24 ;;
        detection-scratch) detection_scratch ;;
        detection-a2mim) detection_a2mim ;;
        steps)
            twenty_steps r50-c4 configs/selfsup/a2mim_r50.py configs/mmdet/mask-rcnn_a2mim-r50-c4_2x_coco.py
            twenty_steps vit-s-fpn configs/selfsup/a2mim_vit-s.py configs/mmdet/mask-rcnn_a2mim-vit-s-fpn_1x_coco.py
            ;;
        *) echo "unknown part: $part" >&2 && exit 2 ;;
    esac
done
