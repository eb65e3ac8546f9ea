# r50_a2mim_rsb-a2_ft-300e_official.py from a random start.
_base_ = '../official/r50_a2mim_rsb-a2_ft-300e_official.py'

start = 'scratch'
