"""Learned priors over convolution kernels for Bayesian segmentation of medical images."""

__version__ = "0.1.0"
