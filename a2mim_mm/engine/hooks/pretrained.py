"""Starts a training from a pre-trained backbone."""

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim_mm.checkpoints.backbone import PretrainedWeights, differing_images, read_as_configured
from a2mim_mm.checkpoints.load import unwrap
from a2mim_mm.convert.adopt import adopt
from a2mim_mm.models import A2MIM


class PretrainedHook(Hook):
    """Loads a pre-trained backbone after the model has got its random weights.

    Args:
        pretrained: The weights to load.
    """

    priority = 'VERY_HIGH'  # before any hook that looks at the weights

    def __init__(self, pretrained: PretrainedWeights) -> None:
        self.pretrained = pretrained

    def before_train(self, runner: Runner) -> None:
        """Load the weights, and free them."""
        self.pretrained.load_into(unwrap(runner.model))
        del self.pretrained


def start_from_pretrained(runner: Runner, path: str | Path) -> None:
    """Let a training start from a pre-trained backbone, and log a table of what was loaded.

    ``pretrained_parts`` and ``fresh_params`` of the config say what belongs to the backbone. A pre-training
    takes weights of any format that ``tools/convert_checkpoint.py`` reads.

    Raises:
        CheckpointError: At once, if the checkpoint does not fill the backbone.
    """
    model, notes = unwrap(runner.model), []
    if isinstance(model, A2MIM):
        pretrained, notes = adopt(path, runner.cfg, model.backbone)
    else:
        pretrained = read_as_configured(path, runner.cfg)
    for note in differing_images(pretrained.saved, runner.cfg, str(path)):
        runner.logger.warning(note)
    runner.logger.info('\n  '.join([pretrained.load_into(model), *notes]))
    runner.register_hook(PretrainedHook(pretrained))
