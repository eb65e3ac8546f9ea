# r50_a2mim_rsb-a3_ft-100e_official.py from a random start.
_base_ = '../official/r50_a2mim_rsb-a3_ft-100e_official.py'

start = 'scratch'
