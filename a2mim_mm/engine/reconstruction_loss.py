"""The losses of pre-training as a metric, for ``tools/test.py``."""

from collections.abc import Sequence

from mmengine.evaluator import BaseMetric

from a2mim_mm.registry import METRICS

PREFIX = 'loss_'


@METRICS.register_module()
class ReconstructionLoss(BaseMetric):
    """The mean over images of each ``loss_*`` that :meth:`A2MIM.predict` writes into the samples."""

    def process(self, _data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the losses of a batch."""
        for sample in data_samples:
            self.results.append({name: value for name, value in sample.items() if name.startswith(PREFIX)})

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Average over all images of all ranks."""
        return {name: sum(result[name] for result in results) / len(results) for name in results[0]}
