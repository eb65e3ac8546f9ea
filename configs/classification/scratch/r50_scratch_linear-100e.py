# r50_a2mim_linear-100e.py from a random start.
_base_ = '../r50_a2mim_linear-100e.py'

start = 'scratch'
