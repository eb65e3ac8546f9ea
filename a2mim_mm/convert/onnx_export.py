"""An encoder as an ONNX graph."""

from pathlib import Path

import torch
from torch import Tensor, nn

from a2mim_mm.libraries import optional_library

from .encoder import Encoder
from .verify import example_images


class _Features(nn.Module):
    """The encoder's last output alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[-1]


def export(encoder: Encoder, path: Path) -> None:
    """Write the graph with its weights. It takes any batch size; the graph of a CNN takes any image size too.

    Raises:
        LibraryMissing: If onnx or onnxscript is not installed.
    """
    for name in ('onnx', 'onnxscript'):
        optional_library(name)
    network = _Features(encoder.build(torch.float32))
    network.eval()
    dynamic = {0: torch.export.Dim('batch')}
    if encoder.family in ('ResNet', 'ConvNeXt'):
        dynamic |= {2: torch.export.Dim('height', min=32), 3: torch.export.Dim('width', min=32)}
    torch.onnx.export(
        network,
        (example_images(encoder, torch.float32),),
        path,
        input_names=['images'],
        output_names=['features'],
        dynamic_shapes=(dynamic,),
        external_data=False,
        verbose=False,
        dynamo=True,
    )
