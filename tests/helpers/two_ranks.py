"""What one of two ranks does in the test of the token under DistributedDataParallel."""

import torch
import torch.distributed as dist
from helpers import algorithms
from torch.nn.parallel import DistributedDataParallel


def rank_gradient(algorithm, forward, rank):
    """Gradient of the token from the batch of one rank."""
    for param in algorithm.parameters():
        param.grad = None
    inputs, samples = algorithms.batch(batch=2, seed=10 + rank)
    algorithms.total(forward(inputs, samples, mode='loss')).backward()
    return algorithm.mask_token.token.grad.clone()


def run(rank, folder):
    """Two steps, the second of which fails where a parameter got no gradient in the first."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    algorithm = algorithms.build('resnet')
    wrapped = DistributedDataParallel(algorithm)
    grads = [rank_gradient(algorithm, wrapped, rank) for _ in range(2)]
    torch.save(grads[0], f'{folder}/grad_{rank}.pth')
    dist.destroy_process_group()
