"""A model and a data set that train in milliseconds, a config file for them, and the tools as functions."""

import importlib.util
import sys
from pathlib import Path

import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, FUNCTIONS, HOOKS, METRICS, MODELS
from mmengine.structures import BaseDataElement
from torch import nn

from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.models import Fill, RandomPatchMask

ROOT = Path(__file__).parents[2]
SIZE = 8  # pixels
# How tests start a process. A forked one saves the seconds of imports, but CUDA does not survive it.
START = 'spawn' if torch.cuda.is_available() else 'fork'
NORMS = {'BN': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}


@DATASETS.register_module()
class ToyImages(BaseDataset):
    """Random uint8 BGR images; those listed in `unreadable` carry a note."""

    def __init__(self, length=8, unreadable=()):
        self.length, self.unreadable = length, set(unreadable)
        super().__init__(serialize_data=False)

    def load_data_list(self):
        return [dict(index=index) for index in range(self.length)]

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        notes = [f'{index}.jpg: truncated'] if index in self.unreadable else []
        return dict(
            inputs=torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8, generator=generator),
            data_samples=BaseDataElement(unreadable=notes),
        )


@FUNCTIONS.register_module()
def toy_collate(samples):
    """Batches as default_collate makes them for images."""
    return dict(
        inputs=torch.stack([sample['inputs'] for sample in samples]),
        data_samples=[sample['data_samples'] for sample in samples],
    )


@MODELS.register_module()
class ToyModel(BaseModel):
    """Two 1x1 convolutions, dropout between them; logs the two losses of A2MIM."""

    def __init__(self, width=3, norm=None):
        super().__init__()
        self.encoder = nn.Conv2d(3, width, 1)
        self.norm = nn.Identity() if norm is None else NORMS[norm['type']](width)
        self.drop = nn.Dropout(0.5)
        self.decoder = nn.Conv2d(width, 3, 1)
        self.last_dtype = None
        self.mask = RandomPatchMask(patch_size=2)
        self.fill = Fill('zero')

    def forward(self, inputs, data_samples=None, mode='tensor'):
        images = inputs.float() / 255
        pred = self._predict(images)
        self.last_dtype = pred.dtype
        if mode == 'predict':
            return [
                BaseDataElement(error=float(error)) for error in (pred - images).abs().mean(dim=(1, 2, 3))
            ]
        return dict(loss_spa=(pred - images).abs().mean(), loss_freq=(pred - images).square().mean())

    def predict_pixels(self, img_b3hw, mask_bhw, mask_b1hw, use_token):
        """As A2MIM's, so that the toy can be drawn."""
        return 255 * self._predict(img_b3hw / 255)

    def _predict(self, images):
        return self.decoder(self.drop(self.norm(self.encoder(images))))


@METRICS.register_module()
class ToyLoss(BaseMetric):
    """Mean of the predicted losses."""

    def process(self, data_batch, data_samples):
        self.results += [sample['error'] for sample in data_samples]

    def compute_metrics(self, results):
        return dict(error=sum(results) / len(results))


@HOOKS.register_module()
class InterruptAt(Hook):
    """Presses Ctrl-C in the first iteration of an epoch, or has a bug there."""

    def __init__(self, epoch, error='KeyboardInterrupt'):
        self.epoch = epoch
        self.error = dict(KeyboardInterrupt=KeyboardInterrupt, ZeroDivisionError=ZeroDivisionError)[error]

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch == self.epoch:
            raise self.error


CONFIG = """
custom_imports = dict(imports=['helpers.toy_training', 'a2mim_mm'], allow_failed_imports=False)
model = dict(type='ToyModel')
loader = dict(
    batch_size=2,
    num_workers=0,
    collate_fn=dict(type='toy_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ToyImages', length=8),
)
train_dataloader = loader
test_dataloader = loader
test_cfg = dict()
test_evaluator = dict(type='ToyLoss')
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.04))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=4, eta_min=0.004, by_epoch=True)]
auto_scale_lr = dict(enable=False, base_batch_size=256)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1),
)
custom_hooks = [dict(type='a2mim_mm.ThroughputHook')]
randomness = dict(seed=0)
"""


def write_config(folder, extra='', name='toy'):
    """Write the toy config, followed by `extra`. Each run in a process needs its own name."""
    path = folder / f'{name}.py'
    path.write_text(CONFIG + extra)
    return str(path)


def tool(name):
    """tools/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_log(work_dir):
    """All log files of a work dir, in order of time."""
    return '\n'.join(path.read_text() for path in sorted(Path(work_dir).glob('*/*.log')))


def train_in_a_terminal(argv, stderr):
    """What a process does in place of `python tools/train.py ARGV 2> STDERR`."""
    sys.stderr = open(stderr, 'w', buffering=1)
    run_tool(lambda: tool('train').main(argv))
