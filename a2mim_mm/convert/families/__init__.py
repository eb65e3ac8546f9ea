"""The families of encoders: how the pivot of each is told from weights, and what its peers are."""
