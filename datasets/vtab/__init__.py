"""VTAB-1k (Zhai et al., 2019, arXiv:1910.04867): 19 tasks of 1,000 training images each."""

from . import cards as cards
