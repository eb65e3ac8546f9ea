"""A pre-training in one call: a network's name and a folder become a config, and the config is trained."""
