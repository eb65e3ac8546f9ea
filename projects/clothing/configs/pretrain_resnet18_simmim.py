# SimMIM as the paper runs it with a CNN (Appendix B.1): hidden patches of the input are filled with the mean
# colour, the network gets no token, and the loss is L_spa alone. The rest is as in pretrain_resnet18.py.
_base_ = './pretrain_resnet18.py'

model = dict(mask_token=None, head=dict(lambda_freq=0.0))
