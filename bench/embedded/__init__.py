"""The embedded backbones: small transformers whose weights live in the repository, so everything runs offline.

`model` registers them with timm. `regatta_vit_48`: `scenes` draws the images it was pre-trained on, `pretrain` makes
its weights again. `regatta_vit_64`: `collection` says which real pictures may be learnt from, `views` and `teacher`
make its lessons of them, `distil` makes its weights again, `probe` compares the two with their teacher.

`text` builds `regatta_text_40`, which reads texts: `language` has the words and the grammar of its sentences,
`exercises` what was asked of them in pre-training, `train_text` makes its weights again, `examine_text` compares them
with random ones.
"""
