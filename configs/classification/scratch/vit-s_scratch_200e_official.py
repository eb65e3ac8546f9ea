# vit-s_a2mim_ft-200e_official.py from a random start.
_base_ = '../official/vit-s_a2mim_ft-200e_official.py'

start = 'scratch'
