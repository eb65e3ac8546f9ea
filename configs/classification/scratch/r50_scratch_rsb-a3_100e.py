# r50_a2mim_rsb-a3_ft-100e.py from a random start.
_base_ = '../r50_a2mim_rsb-a3_ft-100e.py'

start = 'scratch'
