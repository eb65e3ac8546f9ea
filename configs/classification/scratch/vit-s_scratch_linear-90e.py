# vit-s_a2mim_linear-90e.py from a random start.
_base_ = '../vit-s_a2mim_linear-90e.py'

start = 'scratch'
