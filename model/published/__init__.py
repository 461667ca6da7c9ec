"""The published implementation's operations, re-created on our modules and weights.

This is what speed and memory are held against.

Same outputs to rounding, other ways to get them: attention weights that are written out, frozen norms as
operations of their own, channels first, all frames of a video through the backbone at once, every window
computed anew from the backbone's maps, masks of all queries, tracker buffers that grow with the square of the
video, full-size float masks of all instances at once. Float32, eager. Facts read from the published code
(commit 880d646); nothing of it is copied.

Only benchmarks, memory estimates and tests import this package.
"""
