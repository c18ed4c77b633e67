"""The reference model: plain modules over packed tokens, with gradients, hidden states and attention weights on request.

It is the truth that parity is measured on, and what trains. :mod:`nativebert.engine` makes the fast form of it.
"""

import nativebert.forking  # noqa: F401  (whoever computes with torch may be forked)
