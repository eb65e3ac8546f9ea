"""Writes the backbone of a finished pre-training to a separate file."""

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim_mm.backbones.timm_backbone import timm_call
from a2mim_mm.checkpoints.load import unwrap
from a2mim_mm.checkpoints.write import safetensors_bytes
from a2mim_mm.files import write_whole
from a2mim_mm.models import A2MIM
from a2mim_mm.registry import HOOKS

NAME = 'backbone.safetensors'


@HOOKS.register_module()
class SaveBackboneHook(Hook):
    """Writes ``backbone.safetensors`` into the work dir when a pre-training ends, and says how to load it.

    The file holds the weights under the names of the backbone, and the config of the training as text, from
    which ``load_backbone`` builds the network. Other trainings than A2MIM's are left alone.
    """

    priority = 'VERY_LOW'

    def after_train(self, runner: Runner) -> None:
        """Write the file, on the first rank."""
        model = unwrap(runner.model)
        if runner.rank or not isinstance(model, A2MIM):
            return
        path = Path(runner.work_dir) / NAME
        with write_whole(path) as draft:
            draft.write_bytes(safetensors_bytes(model.backbone.state_dict(), runner.cfg.pretty_text))
        runner.logger.info(f'backbone: {path}\n' + '\n'.join(f'  {line}' for line in _usage(path, runner)))


def _usage(path: Path, runner: Runner) -> list[str]:
    """Lines of Python that load the backbone."""
    backbone = runner.cfg.model.backbone
    lines = ['from a2mim_mm.apis import load_backbone', f'backbone = load_backbone({str(path)!r})']
    if isinstance(backbone, dict) and backbone['type'] == 'a2mim_mm.TimmBackbone':
        name, options = timm_call(backbone)
        arguments = ', '.join([repr(name), *(f'{key}={value!r}' for key, value in options.items())])
        lines += [
            'or: import timm, safetensors.torch',
            f'backbone = timm.create_model({arguments}, num_classes=0)',
            f'backbone.load_state_dict(safetensors.torch.load_file({str(path)!r}))',
        ]
    return lines
