"""The embedded backbone: a small vision transformer whose weights live in the repository, so everything runs offline.

`model` registers it with timm, `scenes` draws the images it was pre-trained on, `pretrain` makes its weights again.
"""
