# vit-b_a2mim_ft-100e.py from a random start.
_base_ = '../vit-b_a2mim_ft-100e.py'

start = 'scratch'
