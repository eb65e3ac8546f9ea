"""Classification by frozen features of two folders: nearest neighbours, and a linear classifier.

Shape suffixes: n training images, m test images, d feature width, c classes.
"""

from pathlib import Path

import torch
from mmpretrain.evaluation import Accuracy
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from a2mim_mm.apis import iterate_features, load_backbone
from a2mim_mm.checkpoints import install_safe_loader
from a2mim_mm.data import LabelledImages
from a2mim_mm.engine.hooks.classes import compare_classes
from a2mim_mm.files import write_json

from .knn import check_neighbours, knn_scores

_DECAY = 1e-3  # of the linear classifier's weights, for features of mean 0 and variance 1
_ITERATIONS = 200


def probe(checkpoint: str, train: Path, test: Path, k: int, out: Path | None) -> dict[str, float]:
    """Classify test images.

    Args:
        checkpoint: File of a training.
        train: Folder with a folder of images for each class.
        test: Folder with the same classes.
        k: Number of neighbours.
        out: JSON file for the result; None to print it only.

    Returns:
        Top-1 accuracies in percent: ``knn`` and ``linear``.

    Raises:
        ValueError: If k is out of range, or the folders have other classes.
    """
    install_safe_loader()
    bank, query = (LabelledImages(folder) for folder in (train, test))
    compare_classes(bank.metainfo['classes'], query.metainfo['classes'], str(train), str(test))
    check_neighbours(len(bank), k, temperature=0.07)
    backbone = load_backbone(checkpoint)
    backbone.to('cuda' if torch.cuda.is_available() else 'cpu')
    bank_nd, labels_n = _features(backbone, bank, 'training images')
    query_md, labels_m = _features(backbone, query, 'test images')
    count = len(bank.metainfo['classes'])
    scores = dict(
        knn=knn_scores(bank_nd, labels_n, query_md, count, k),
        linear=linear_scores(bank_nd, labels_n, query_md, count),
    )
    metrics = {
        name: Accuracy.calculate(scores_mc, labels_m, topk=(1,))[0][0].item()
        for name, scores_mc in scores.items()
    }
    texts = ', '.join(f'{name} {value:.2f}' for name, value in metrics.items())
    print(f'top-1 of {len(query):,} test images, {len(bank):,} training images, {count} classes: {texts}')
    if out is not None:
        write_json(out, metrics)
    return metrics


def linear_scores(bank_nd: Tensor, labels_n: Tensor, query_md: Tensor, num_classes: int) -> Tensor:
    """Scores (m, c) of multinomial logistic regression on normalised features, fitted by L-BFGS.

    Args:
        bank_nd: (n, d) features of the training images.
        labels_n: (n,) their classes.
        query_md: (m, d) features of the test images.
        num_classes: Number of classes c.
    """
    mean_d, std_d = bank_nd.mean(dim=0), bank_nd.std(dim=0).clamp(min=1e-6)
    bank_nd, query_md = (bank_nd - mean_d) / std_d, (query_md - mean_d) / std_d
    weight_cd = torch.zeros(num_classes, bank_nd.shape[1], requires_grad=True)
    bias_c = torch.zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight_cd, bias_c], max_iter=_ITERATIONS, line_search_fn='strong_wolfe')

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(bank_nd, weight_cd, bias_c), labels_n)
        value = value + 0.5 * _DECAY * weight_cd.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return F.linear(query_md, weight_cd, bias_c).detach()


def _features(backbone: nn.Module, dataset: LabelledImages, title: str) -> tuple[Tensor, Tensor]:
    """Mean features (n, d) and classes (n,) of all images."""
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    paths = track([info['img_path'] for info in infos], description=title)
    parts = [batch[-1] for batch in iterate_features(backbone, paths, pool=True)]
    return torch.cat(parts), torch.tensor([info['gt_label'] for info in infos])
