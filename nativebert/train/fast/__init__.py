"""The fast training step for CPUs: post-norm encoders in float32, on the C kernels (kernels/train.c).

What it gains over torch's autograd: products through nativebert's own kernels; one autograd function a layer; dropout by counter, of which
nothing is stored; parameters, gradients and moments in flat memory, updated with the clipping in one pass; and a token table of which only
the rows are updated that a batch has.
"""

from nativebert.train.fast.step import FastStep, why_not

__all__ = ["FastStep", "why_not"]
