"""Names that libraries give to the weights of encoders, one module a format."""
