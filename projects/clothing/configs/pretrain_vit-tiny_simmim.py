# SimMIM: the token replaces hidden patches after the patch embedding, and the loss is L_spa alone. The rest
# is as in pretrain_vit-tiny.py.
_base_ = './pretrain_vit-tiny.py'

model = dict(
    fill='none',
    mask_token=dict(site='patch_embed', mode='replace'),
    head=dict(lambda_freq=0.0),
)
