# vit-b_a2mim_ft-100e_official.py from a random start.
_base_ = '../official/vit-b_a2mim_ft-100e_official.py'

start = 'scratch'
