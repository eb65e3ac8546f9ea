# r50_a2mim_rsb-a2_ft-300e.py from a random start.
_base_ = '../r50_a2mim_rsb-a2_ft-300e.py'

start = 'scratch'
