"""The losses of a test are means over all images."""

from a2mim_mm.engine import ReconstructionLoss


def test_each_image_counts_once():
    metric = ReconstructionLoss()
    metric.process({}, [dict(loss_spa=1.0, loss_freq=4.0, index=3), dict(loss_spa=2.0, loss_freq=4.0)])
    metric.process({}, [dict(loss_spa=6.0, loss_freq=1.0)])
    assert metric.evaluate(3) == dict(loss_spa=3.0, loss_freq=3.0)
