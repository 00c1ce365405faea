"""Kernels of trained convolutions: cut out, kept on disk, and measured for what they hold beyond noise."""
