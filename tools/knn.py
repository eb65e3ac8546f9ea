"""Classify test images by the nearest training images in feature space: a check that needs no training.

python tools/knn.py configs/classification/r50_a2mim_linear-100e.py --pretrained CHECKPOINT

One process. All training features stay on the device: of ImageNet-1K and ResNet-50, by arithmetic, 10.5 GB,
and up to three times that at the peak.
"""

import argparse
from pathlib import Path

DATA = ('training images', 'test images')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Classify by nearest neighbours of frozen features.')
    parser.add_argument(
        'config', help='config of a classifier, best of a linear probe: backbone, neck and data'
    )
    parser.add_argument(
        '--pretrained',
        metavar='PATH',
        help='checkpoint with the backbone, .pth or .safetensors (default: a random start)',
    )
    parser.add_argument('--k', type=int, default=20, help='number of neighbours (default: 20)')
    parser.add_argument(
        '--temperature',
        type=float,
        default=0.07,
        help='of the votes; smaller: the nearest count more (default: 0.07)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of a random start (default: 0)')
    parser.add_argument('--out', type=Path, metavar='METRICS.json', help='write the result to a file as well')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='values to overwrite'
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # --help and mistakes are answered at once: the imports below take seconds

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from a2mim_mm.analysis import check_neighbours, knn_scores
from a2mim_mm.checkpoints import install_safe_loader, load_pretrained
from a2mim_mm.checkpoints.load import build_network
from a2mim_mm.engine.config import load_config, model_config, require
from a2mim_mm.engine.hooks.classes import compare_classes
from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.errors import InputError
from a2mim_mm.files import write_json


def load_classifier(cfg: Config, pretrained: str | None, seed: int) -> nn.Module:
    """The classifier in evaluation mode, its backbone from the checkpoint, or random.

    Raises:
        ValueError: If the checkpoint does not fill the backbone.
    """
    torch.manual_seed(seed)
    model = build_network(model_config(cfg))
    if pretrained is None:
        model.init_weights()
    else:
        print(load_pretrained(model, pretrained, cfg))
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    model.eval()
    return model


@torch.no_grad()
def extract(model: nn.Module, loader: DataLoader, title: str) -> tuple[Tensor, Tensor]:
    """Features (n, d), as the neck gives them, and classes (n,) of a data set.

    Raises:
        ValueError: If the features of an image are no vector.
    """
    features, labels = [], []
    for batch in track(loader, description=title):
        batch = model.data_preprocessor(batch, training=False)
        feature_bd = model.extract_feat(batch['inputs'])[-1]
        if feature_bd.ndim != 2:
            raise InputError(
                f'features are of shape {tuple(feature_bd.shape)}, not (images, width): the config needs a '
                'neck, such as GlobalAveragePooling'
            )
        features.append(feature_bd)
        labels += [sample.gt_label for sample in batch['data_samples']]
    return torch.cat(features), torch.cat(labels)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Classify; returns top-1 and top-5 accuracy in percent."""
    args = parse_args(argv)
    install_safe_loader()
    cfg = load_config(args.config, args.cfg_options)
    require(cfg, ('model', 'train_dataloader', 'test_dataloader'), 'searched for neighbours')
    model = load_classifier(cfg, args.pretrained, args.seed)
    test_cfg = cfg.test_dataloader
    bank_cfg = test_cfg.copy()  # the training images as the test images are seen: no random crop, in order
    bank_cfg.dataset = {**cfg.train_dataloader.dataset, 'pipeline': test_cfg.dataset.pipeline}
    bank, test = Runner.build_dataloader(bank_cfg), Runner.build_dataloader(test_cfg)
    check_neighbours(len(bank.dataset), args.k, args.temperature)  # now, not when all features are there
    compare_classes(*(loader.dataset.metainfo['classes'] for loader in (bank, test)), *DATA)
    bank_nd, labels_n = extract(model, bank, DATA[0])
    query_md, labels_m = extract(model, test, DATA[1])
    num_classes = model.head.num_classes
    scores_mc = knn_scores(bank_nd, labels_n, query_md, num_classes, args.k, args.temperature)
    topk = (1, 5) if num_classes >= 5 else (1,)
    accuracy = Accuracy.calculate(scores_mc, labels_m, topk=topk)
    metrics = {f'accuracy/top{top}': value[0].item() for top, value in zip(topk, accuracy, strict=True)}
    print(f'{args.k} of {len(bank_nd)} neighbours, {len(query_md)} test images:', metrics)
    if args.out is not None:
        write_json(args.out, metrics)
    return metrics


if __name__ == '__main__':
    run_tool(main)
