"""What is wrong with a checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, refused, or of another model."""
