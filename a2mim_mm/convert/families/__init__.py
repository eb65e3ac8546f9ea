"""The families of encoders: how to read the pivot of each off its weights, and what its peers are."""
