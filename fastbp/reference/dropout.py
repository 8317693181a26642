"""Dropout: which neurons a training leaves out, by a generator that counts.

In training, the activations of a hidden layer and their slopes are multiplied by a mask: 0 with
probability p, else 1 / (1 - p), so that the mean stays and prediction needs no mask (Srivastava et
al., *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*, 2014, with the scaling in
training). A mask follows from the epoch's key and the numbers of sample, layer and neuron alone. So
nobody has to keep it, and it depends neither on threads nor on where a training was cut.
"""

from collections.abc import Sequence

import numpy as np

from .records import Array, Model

# Of 20, which the authors advise as a margin, 13 is the fewest that passes all of their tests.
ROUNDS = 13
ROTATIONS = 13, 15, 26, 6, 17, 29, 16, 24
PARITY = 0x1BD11BDA


def threefry(
    key: tuple[int, int], counter: tuple[Array, Array], rounds: int = ROUNDS
) -> tuple[Array, Array]:
    """Threefry-2x32: two words of 32 random bits for each counter, which is two words too.

    `counter` holds integers of any shapes that fit each other; their lowest 32 bits count. Each
    round adds, rotates and mixes; every fourth adds the key. Salmon et al., *Parallel Random
    Numbers: As Easy as 1, 2, 3*, 2011.

    >>> [hex(word[0]) for word in threefry((0, 0), (np.zeros(1, int), np.zeros(1, int)))]
    ['0x9d1c5ec6', '0x8bd50731']
    """
    words = [np.atleast_1d(np.asarray(word)).astype(np.uint32) for word in counter]
    keys = np.array([*key, key[0] ^ key[1] ^ PARITY], np.uint64).astype(np.uint32)
    x, y = np.broadcast_arrays(words[0] + keys[0], words[1] + keys[1])
    for number in range(rounds):
        left = ROTATIONS[number % 8]
        x = x + y
        y = (y << np.uint32(left) | y >> np.uint32(32 - left)) ^ x
        if number % 4 == 3:
            turn = number // 4 + 1
            x, y = x + keys[turn % 3], y + keys[(turn + 1) % 3] + np.uint32(turn)
    return x, y


def threshold(p: float) -> int:
    """Return the number of 32 bits below which a random one means a neuron left out."""
    return min(round(p * 2**32), 2**32 - 1)


def factor(p: float) -> float:
    """Return what is left is multiplied by: 1 / (1 - p), of the p that `threshold` stands for."""
    return 1 / (1 - threshold(p) / 2**32)


def masks(model: Model, key: int, samples: Array, dtype: np.dtype) -> Sequence[Array | None] | None:
    """Return for each hidden layer what its activations are multiplied by, or None; see `forward`.

    `key` are the 64 bits of an epoch, and `samples`, (batch,), the numbers of a batch's samples. In
    layer l = 1, 2, ... neurons 2 i and 2 i + 1 of sample s have the words of the counter (i, s);
    the layer's key is the epoch's with l added to its upper word.
    """
    if not any(model.dropout):
        return None
    rates = enumerate(zip(model.dropout, model.sizes[1:-1], strict=True), 1)
    return [mask(key, l, samples, n, p, dtype) if p else None for l, (p, n) in rates]


def mask(key: int, l: int, samples: Array, n: int, p: float, dtype: np.dtype) -> Array:
    """Return the mask of n neurons in layer l, (batch, n); see `masks`."""
    words = key % 2**32, ((key >> 32) + l) % 2**32
    pairs = threefry(words, (np.arange((n + 1) // 2), samples[:, None]))
    random = np.stack(pairs, axis=-1).reshape(len(samples), -1)[:, :n]
    return np.where(random < threshold(p), 0, factor(p)).astype(dtype)
