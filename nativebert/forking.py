"""Computing in a forked child of this process (``os.fork``, ``multiprocessing``'s fork, gunicorn's preload).

Threads do not survive a fork. Loading a model starts those of torch's OpenMP runtime, and in a child, GNU's runtime would wait for ever for
threads that are not there, in torch and in the C kernels alike, which share it. With one thread it asks for none. Results do not depend
on the number of threads, so a child gives the parent's bits; and children are there to be several.
"""

import os


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread)
