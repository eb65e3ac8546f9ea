"""What is wrong with a checkpoint."""

from a2mim_mm.errors import InputError


class CheckpointError(InputError):
    """A checkpoint that is missing, damaged, refused, or of another model."""
