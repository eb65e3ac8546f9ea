"""What is wrong with a checkpoint."""

from a2mim_mm.errors import InputError


class CheckpointError(InputError):
    """A checkpoint is missing, damaged, refused, or belongs to another model."""
