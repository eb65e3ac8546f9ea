"""Classification by nearest neighbours of frozen features: a check without training.

Shape suffixes: n images of the bank, m queries, d feature width, k neighbours, c classes.
"""

import argparse

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from a2mim_mm.checkpoints import install_safe_loader, load_pretrained
from a2mim_mm.checkpoints.load import build_network
from a2mim_mm.engine.config import load_config, model_config, require
from a2mim_mm.engine.hooks.classes import compare_classes
from a2mim_mm.errors import InputError
from a2mim_mm.files import write_json

from .networks import fill_randomly

_DATA = ('training images', 'test images')
_CHUNK = 1024  # queries at once: their similarities to a bank of 1.3 million images take 5 GB


def check_neighbours(num_images: int, k: int, temperature: float) -> None:
    """Check the arguments of :func:`knn_scores` for a bank of ``num_images``, before its features exist.

    Raises:
        ValueError: If k or the temperature is out of range.
    """
    if not 1 <= k <= num_images:
        raise InputError(f'k must be in 1..{num_images}, the number of images in the bank, got {k}')
    if not temperature > 0:
        raise InputError(f'temperature must be positive, got {temperature}')


def knn_scores(
    bank_nd: Tensor,
    labels_n: Tensor,
    query_md: Tensor,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> Tensor:
    """Votes of the k nearest neighbours by cosine similarity s, each weighted by exp(s / temperature).

    After Wu et al., "Unsupervised feature learning via non-parametric instance discrimination" (2018),
    Section 3.4, with the k and temperature of DINO's evaluation.

    Args:
        bank_nd: (n, d) features with known classes, of any length.
        labels_n: (n,) their classes, in 0..num_classes - 1.
        query_md: (m, d) features to classify.
        num_classes: Number of classes.
        k: Number of neighbours, at most n.
        temperature: Positive. The smaller it is, the more the nearest neighbours count.

    Returns:
        (m, num_classes) votes. Each row sums to 1.

    Raises:
        ValueError: If k, the temperature or a class is out of range.
    """
    check_neighbours(len(bank_nd), k, temperature)
    if labels_n.min() < 0 or labels_n.max() >= num_classes:
        raise InputError(
            f'classes must be in 0..{num_classes - 1}, got {labels_n.min().item()}..{labels_n.max().item()}'
        )
    bank_dn = F.normalize(bank_nd, dim=1).T
    votes = []
    for chunk_md in query_md.split(_CHUNK):
        similarity_mk, index_mk = (F.normalize(chunk_md, dim=1) @ bank_dn).topk(k, dim=1)
        weight_mk = (similarity_mk / temperature).softmax(dim=1)  # over the neighbours: cannot overflow
        votes.append(
            weight_mk.new_zeros(len(chunk_md), num_classes).scatter_add_(1, labels_n[index_mk], weight_mk)
        )
    return torch.cat(votes)


def load_classifier(cfg: Config, pretrained: str | None, seed: int) -> nn.Module:
    """The classifier of a config in evaluation mode, with its backbone from a checkpoint or random.

    Raises:
        ValueError: If the checkpoint does not fill the backbone.
    """
    torch.manual_seed(seed)
    model = build_network(model_config(cfg))
    if pretrained is None:
        fill_randomly(model)
    else:
        print(load_pretrained(model, pretrained, cfg))
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    model.eval()
    return model


@torch.no_grad()
def extract(model: nn.Module, loader: DataLoader, title: str) -> tuple[Tensor, Tensor]:
    """Features (n, d) after the neck, and classes (n,), of a data set.

    Raises:
        ValueError: If the features of an image are not a vector.
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


def run(args: argparse.Namespace) -> dict[str, float]:
    """Classify.

    Args:
        args: The command line of ``tools/knn.py``.

    Returns:
        Top-1 and top-5 accuracy in percent.
    """
    install_safe_loader()
    cfg = load_config(args.config, args.cfg_options)
    require(cfg, ('model', 'train_dataloader', 'test_dataloader'), 'searched for neighbours')
    model = load_classifier(cfg, args.pretrained, args.seed)
    test_cfg = cfg.test_dataloader
    bank_cfg = test_cfg.copy()  # training images in the test pipeline: in order, without random crops
    bank_cfg.dataset = {**cfg.train_dataloader.dataset, 'pipeline': test_cfg.dataset.pipeline}
    bank, test = Runner.build_dataloader(bank_cfg), Runner.build_dataloader(test_cfg)
    check_neighbours(len(bank.dataset), args.k, args.temperature)  # fail now, before features are computed
    compare_classes(*(loader.dataset.metainfo['classes'] for loader in (bank, test)), *_DATA)
    bank_nd, labels_n = extract(model, bank, _DATA[0])
    query_md, labels_m = extract(model, test, _DATA[1])
    num_classes = model.head.num_classes
    scores_mc = knn_scores(bank_nd, labels_n, query_md, num_classes, args.k, args.temperature)
    topk = (1, 5) if num_classes >= 5 else (1,)
    accuracy = Accuracy.calculate(scores_mc, labels_m, topk=topk)
    metrics = {f'accuracy/top{top}': value[0].item() for top, value in zip(topk, accuracy, strict=True)}
    print(f'{args.k} of {len(bank_nd)} neighbours, {len(query_md)} test images:', metrics)
    if args.out is not None:
        write_json(args.out, metrics)
    return metrics
