"""Rotations that spread variance evenly over channels: Hadamard matrices, and what does the same where there is none.

Axis letters: C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def hadamard(variances: Tensor) -> Tensor:
    """An orthogonal matrix H [C, C], double, with H diag(variances) H^T constant on its diagonal.

    A Hadamard matrix over the square root of C where Sylvester's and Paley's constructions give one, as for all usual
    widths: there every channel is an equal mix of all. Else rotations of two channels at a time, made for just these
    variances (PHI-S leaves other widths open; chosen here).
    """
    signs = _construct(len(variances))
    return _level(variances) if signs is None else signs.to(variances).div(len(variances) ** 0.5)


def _construct(order: int) -> Tensor | None:
    """A matrix of 1 and -1 with orthogonal rows, double; none where neither construction reaches."""
    if order == 1:
        return torch.ones(1, 1, dtype=torch.double)
    if order == 2:
        return torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.double)
    if order % 4:
        return None
    if _is_prime(order - 1):  # order - 1 = 3 modulo 4
        return _paley_one(order - 1)
    if _is_prime(order // 2 - 1) and order // 2 % 4 == 2:  # order / 2 - 1 = 1 modulo 4
        return _paley_two(order // 2 - 1)
    half = _construct(order // 2)
    return None if half is None else torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.double), half)


def _is_prime(number: int) -> bool:
    return number > 2 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _jacobsthal(prime: int) -> Tensor:
    """[p, p]: 1 where the difference of row and column is a square modulo p, -1 where it is none, 0 where it is 0."""
    squares = {number * number % prime for number in range(1, prime)}
    row = torch.tensor([0.0] + [1.0 if n in squares else -1.0 for n in range(1, prime)], dtype=torch.double)
    number = torch.arange(prime)
    rolled: Tensor = row[(number[:, None] - number[None, :]) % prime]
    return rolled


def _paley_one(prime: int) -> Tensor:
    """Paley's first construction: order p + 1."""
    skew = torch.zeros(prime + 1, prime + 1, dtype=torch.double)
    skew[0, 1:], skew[1:, 0], skew[1:, 1:] = 1, -1, _jacobsthal(prime)
    return skew + torch.eye(prime + 1, dtype=torch.double)


def _paley_two(prime: int) -> Tensor:
    """Paley's second construction: order 2 (p + 1)."""
    symmetric = torch.zeros(prime + 1, prime + 1, dtype=torch.double)
    symmetric[0, 1:], symmetric[1:, 0], symmetric[1:, 1:] = 1, 1, _jacobsthal(prime)
    off = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.double)
    on = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.double)
    return torch.kron(symmetric, off) + torch.kron(torch.eye(prime + 1, dtype=torch.double), on)


def _level(variances: Tensor) -> Tensor:
    """Rotations of the channel above the mean with one below it, each of which brings one channel to the mean."""
    matrix = torch.diag(variances.double())
    turned = torch.eye(len(variances), dtype=torch.double)
    goal = variances.double().mean()
    for _ in range(len(variances) - 1):
        rest = matrix.diagonal() - goal
        high, low = int(rest.argmax()), int(rest.argmin())
        if rest[high] <= 1e-12 * goal.abs() or rest[low] >= -1e-12 * goal.abs():
            break
        rotation = _rotate_to(matrix, high, low, float(goal))
        matrix, turned = rotation @ matrix @ rotation.T, rotation @ turned
    return turned


def _rotate_to(matrix: Tensor, high: int, low: int, goal: float) -> Tensor:
    """The rotation in the plane of two channels after which the first has the variance `goal`."""
    a, b, c = float(matrix[high, high]), float(matrix[low, low]), float(matrix[high, low])
    # cos^2 a + 2 cos sin c + sin^2 b = goal, for t = tan: (b - goal) t^2 + 2 c t + (a - goal) = 0
    tangent = (-c + (c * c - (b - goal) * (a - goal)) ** 0.5) / (b - goal)
    cosine = 1 / (1 + tangent * tangent) ** 0.5
    rotation = torch.eye(len(matrix), dtype=torch.double)
    rotation[high, high], rotation[low, low] = cosine, cosine
    rotation[high, low], rotation[low, high] = tangent * cosine, -tangent * cosine
    return rotation
