"""The C functions of kernels/train.c, on tensors."""

from __future__ import annotations

import ctypes
from ctypes import byref

import torch
from torch import Tensor

from nativebert import kernels

_MASK = 2**64 - 1


def dropout_key(seed: int, step: int, micro_batch: int, site: int) -> int:
    """A key for one place of dropout in one micro-batch: 64 bits, mixed by splitmix64 (doi:10.1145/2660193.2660195)."""
    key = 0
    for number in (seed, step, micro_batch, site):
        key = (key + number + 0x9E3779B97F4A7C15) & _MASK
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & _MASK
        key ^= key >> 31
    return key


class Native:
    """The functions, with the number of threads and the scratch memory that they need.

    All tensors are contiguous float32 on the CPU.
    """

    def __init__(self) -> None:
        self._table = kernels.table()
        self._c = self._table.contents.training.contents
        self._scratch = torch.empty(0)

    @property
    def threads(self) -> int:
        """Threads of every function: torch's."""
        return torch.get_num_threads()

    def scratch(self, numbers: int) -> Tensor:
        """Memory that the next function may write to."""
        if len(self._scratch) < numbers:
            self._scratch = torch.empty(numbers + numbers // 4)
        return self._scratch

    def product(
        self,
        a: Tensor,
        b: Tensor,
        *,
        a_transposed: bool = False,
        b_transposed: bool = False,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """``a b^T + bias + residual``; with ``a_transposed``, ``a`` holds the transpose of the first matrix, and so for ``b``.

        Args:
            a: ``(M, K)``, or ``(K, M)``.
            b: ``(N, K)``, or ``(K, N)``.
            bias: ``(N,)``.
            residual: ``(M, N)``; it may be ``out``.
            out: where to.

        Returns:
            ``(M, N)``.
        """
        M, K = a.shape if not a_transposed else a.shape[::-1]
        N = b.shape[1] if b_transposed else b.shape[0]
        out = torch.empty(M, N) if out is None else out
        scratch = self.scratch(self._c.product_scratch(M, N, K))
        self._c.product(
            a.data_ptr(), a_transposed, b.data_ptr(), b_transposed, M, N, K, _pointer(bias), _pointer(residual), out.data_ptr(),
            scratch.data_ptr(), self.threads,
        )  # fmt: skip
        return out

    def drop(self, x: Tensor, p: float, key: int) -> Tensor:
        """``x`` as dropout leaves it."""
        out = torch.empty_like(x)
        self._c.drop(x.data_ptr(), out.data_ptr(), x.numel(), p, key, self.threads)
        return out

    def residual_norm(
        self, x: Tensor, residual: Tensor, norm: torch.nn.LayerNorm, p: float, key: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``norm(drop(x) + residual)``, the normed rows before weight and bias, and what each was multiplied by."""
        T, H = x.shape
        y, normed, rstd = torch.empty_like(x), torch.empty_like(x), torch.empty(T)
        self._c.residual_norm(
            x.data_ptr(), residual.data_ptr(), norm.weight.data_ptr(), norm.bias.data_ptr(), y.data_ptr(), normed.data_ptr(),
            rstd.data_ptr(), T, H, norm.eps, p, key, self.threads,
        )  # fmt: skip
        return y, normed, rstd

    def residual_norm_back(
        self, dy: Tensor, normed: Tensor, rstd: Tensor, norm: torch.nn.LayerNorm, p: float, key: int
    ) -> tuple[Tensor, Tensor]:
        """Gradients of ``x`` and of the residual; those of weight and bias are added to ``.grad``."""
        T, H = dy.shape
        dx, d_residual = torch.empty_like(dy), torch.empty_like(dy)
        room = self.scratch(-(-T // 32) * 2 * H)
        assert norm.weight.grad is not None
        assert norm.bias.grad is not None
        self._c.residual_norm_back(
            dy.data_ptr(), normed.data_ptr(), rstd.data_ptr(), norm.weight.data_ptr(), dx.data_ptr(), d_residual.data_ptr(),
            norm.weight.grad.data_ptr(), norm.bias.grad.data_ptr(), room.data_ptr(), T, H, p, key, self.threads,
        )  # fmt: skip
        return dx, d_residual

    def add_column_sums(self, x: Tensor, to: Tensor) -> None:
        """Add the sums of the columns of ``(T, N)`` to ``(N,)``."""
        self._c.column_sums(x.data_ptr(), to.data_ptr(), x.shape[0], x.shape[1], self.threads)

    def attend(
        self, qkv: Tensor, starts: Tensor, longest: int, where: Tensor, size: int, heads: int, p: float, key: int
    ) -> tuple[Tensor, Tensor]:
        """Context ``(T, H)`` and the attention weights of all sequences and heads, one after the other, before dropout."""
        T, H = qkv.shape[0], qkv.shape[1] // 3
        weights, context = torch.empty(size), torch.empty(T, H)
        scratch = self.scratch(self.threads * self._c.attention_scratch(longest, H // heads))
        self._c.attend_forward(
            qkv.data_ptr(), starts.data_ptr(), len(starts) - 1, heads, H, where.data_ptr(), weights.data_ptr(),
            context.data_ptr(), p, key, scratch.data_ptr(), longest, self.threads,
        )  # fmt: skip
        return context, weights

    def attend_back(
        self, qkv: Tensor, starts: Tensor, longest: int, where: Tensor, weights: Tensor, d_context: Tensor, heads: int, p: float,
        key: int,
    ) -> Tensor:  # fmt: skip
        """Gradient of ``qkv``."""
        H = d_context.shape[1]
        d_qkv = torch.empty_like(qkv)
        scratch = self.scratch(self.threads * self._c.attention_scratch(longest, H // heads))
        self._c.attend_backward(
            qkv.data_ptr(), starts.data_ptr(), len(starts) - 1, heads, H, where.data_ptr(), weights.data_ptr(),
            d_context.data_ptr(), d_qkv.data_ptr(), p, key, scratch.data_ptr(), longest, self.threads,
        )  # fmt: skip
        return d_qkv

    def adamw(
        self, w: Tensor, m: Tensor, v: Tensor, gradient: Tensor, adam: kernels.Adam, step: kernels.AdamStep, clip: float
    ) -> None:
        """One step of flat parameters."""
        self._c.adamw(
            w.data_ptr(), m.data_ptr(), v.data_ptr(), gradient.data_ptr(), w.numel(), ctypes.addressof(adam),
            ctypes.addressof(step), clip, self.threads,
        )  # fmt: skip

    def adamw_rows(
        self,
        table: tuple[Tensor, Tensor, Tensor, Tensor],
        rows: Tensor,
        gradient: Tensor | None,
        adam: kernels.Adam,
        steps: Tensor,
        kept: Tensor,
        step: int,
        clip: float,
    ) -> None:
        """A step of some rows of a table, after the steps that they have missed; without a gradient, those alone.

        Args:
            table: its weights ``(V, E)``, both moments, and the last step of each row, int32 ``(V,)``.
            rows: int64 ``(n,)``, each once.
            gradient: ``(n, E)``.
            adam, steps, kept, step, clip: see train.c.
        """
        w, m, v, last = table
        self._c.adamw_rows(
            w.data_ptr(), m.data_ptr(), v.data_ptr(), last.data_ptr(), rows.data_ptr(), _pointer(gradient), len(rows), w.shape[1],
            ctypes.addressof(adam), steps.data_ptr(), kept.data_ptr(), step, clip, self.threads,
        )  # fmt: skip

    def sum_squares(self, x: Tensor) -> float:
        """The sum of the squares of all numbers."""
        room = torch.empty(-(-x.numel() // 2**16) + 1, dtype=torch.float64)
        total: float = self._c.sum_squares(x.data_ptr(), x.numel(), room.data_ptr(), self.threads)
        return total


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


__all__ = ["Native", "byref", "dropout_key"]
