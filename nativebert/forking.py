"""What makes a forked child of this process (``os.fork``, ``multiprocessing``'s fork, gunicorn's preload) able to compute.

Threads do not survive a fork. Loading a model starts those of torch's OpenMP runtime, and in a child, GNU's runtime would wait for ever for
threads that are not there, in torch and in the C kernels alike, which share it. With one thread it asks for none. Results do not depend
on the number of threads, so a child gives the parent's bits; and children are there to be several.
"""

import os

import torch

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
