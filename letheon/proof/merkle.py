"""The Merkle tree of RFC 6962 and RFC 9162: roots, inclusion and consistency.

A tree is the sequence of the hashes of its leaves, oldest first. A leaf is hashed behind a zero
byte and a node behind a one, so that no node passes for a leaf. A tree of n leaves is split at the
largest power of two below n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from letheon.errors import ProofInvalid

HASH_BYTES = 32
_LARGEST = 2**63  # leaves
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(content: bytes) -> bytes:
    """The hash of a leaf, 32 bytes."""
    return hashlib.sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two neighbours, 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over these leaf hashes; one pass, and memory for one node a level."""
    peaks: list[tuple[int, bytes]] = []  # (size, root) of perfect trees, largest first
    for leaf in leaves:
        size, node = 1, leaf
        while peaks and peaks[-1][0] == size:
            node = node_hash(peaks.pop()[1], node)
            size *= 2
        peaks.append((size, node))
    if not peaks:
        return EMPTY_ROOT
    node = peaks.pop()[1]
    while peaks:
        node = node_hash(peaks.pop()[1], node)
    return node


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """What `verify_inclusion` needs beside the leaf. Raises ProofInvalid for no such leaf."""
    if not 0 <= index < len(leaves):
        raise ProofInvalid(f"the tree has no leaf {index}, only {len(leaves)}", rule="index")
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_proof(leaves[:split], index), root(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), root(leaves[:split])]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes
) -> None:
    """Raises ProofInvalid unless the leaf stands at `index` in the tree of this size and root."""
    if not 0 <= index < size:
        raise ProofInvalid(f"leaf {index} is not in a tree of {size}", rule="index")
    node, position, last = leaf, index, size - 1
    for sibling in proof:
        if last == 0:
            raise ProofInvalid("the inclusion proof is too long", rule="inclusion")
        if position % 2 == 1 or position == last:
            node = node_hash(sibling, node)
            while position % 2 == 0 and position != 0:
                position, last = position // 2, last // 2
        else:
            node = node_hash(node, sibling)
        position, last = position // 2, last // 2
    if last != 0:
        raise ProofInvalid("the inclusion proof is too short", rule="inclusion")
    if node != expected:
        raise ProofInvalid("the inclusion proof does not lead to the root", rule="inclusion")


def consistency_proof(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """That the tree of the first `first` leaves was only added to. Raises ProofInvalid."""
    if not 0 <= first <= len(leaves):
        raise ProofInvalid(
            f"a tree of {len(leaves)} leaves has no beginning of {first}", rule="size"
        )
    if first in (0, len(leaves)):
        return []
    return _consistency(leaves, first, known=True)


def _consistency(leaves: Sequence[bytes], first: int, *, known: bool) -> list[bytes]:
    """`known`: whether the verifier has the root of the first leaves already."""
    if first == len(leaves):
        return [] if known else [root(leaves)]
    split = _split(len(leaves))
    if first <= split:
        return [*_consistency(leaves[:split], first, known=known), root(leaves[split:])]
    return [*_consistency(leaves[split:], first - split, known=False), root(leaves[:split])]


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raises ProofInvalid unless the tree of `second` leaves begins with that of `first`."""
    if not 0 <= first <= second:
        raise ProofInvalid(f"a tree of {second} leaves cannot follow one of {first}", rule="size")
    if first in (0, second):
        _check_trivial(first, first_root, second_root, proof)
        return
    path = list(proof)
    position, last = first - 1, second - 1
    while position % 2 == 1:
        position, last = position // 2, last // 2
    if position == 0 and first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        raise ProofInvalid("the consistency proof is too short", rule="consistency")
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofInvalid("the consistency proof is too long", rule="consistency")
        if position % 2 == 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while position % 2 == 0 and position != 0:
                position, last = position // 2, last // 2
        else:
            new = node_hash(new, sibling)
        position, last = position // 2, last // 2
    if last != 0:
        raise ProofInvalid("the consistency proof is too short", rule="consistency")
    if old != first_root or new != second_root:
        raise ProofInvalid(
            f"the tree of {second} leaves does not begin with the {first} known ones: it was "
            "rewritten",
            rule="consistency",
        )


def _check_trivial(
    first: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    if proof:
        raise ProofInvalid("the consistency proof is too long", rule="consistency")
    if first_root != (EMPTY_ROOT if first == 0 else second_root):
        raise ProofInvalid("two trees of one size have two roots", rule="consistency")


def batch_proof(leaves: Sequence[bytes], indices: Sequence[int]) -> list[bytes]:
    """What `verify_batch` needs beside the named leaves; no node twice. Raises ProofInvalid."""
    wanted = sorted(set(indices))
    if not wanted or wanted[0] < 0 or wanted[-1] >= len(leaves):
        raise ProofInvalid(f"the tree has leaves 0 to {len(leaves) - 1}", rule="index")
    return list(_batch(leaves, wanted))


def _batch(leaves: Sequence[bytes], wanted: Sequence[int]) -> Iterator[bytes]:
    if not wanted:
        yield root(leaves)
        return
    if len(leaves) == 1:
        return
    split = _split(len(leaves))
    yield from _batch(leaves[:split], [i for i in wanted if i < split])
    yield from _batch(leaves[split:], [i - split for i in wanted if i >= split])


def verify_batch(
    leaves: Mapping[int, bytes], size: int, proof: Sequence[bytes], expected: bytes
) -> None:
    """Raises ProofInvalid unless all leaf hashes, by index, stand in the tree of this root."""
    if size > _LARGEST:  # whose depth a stranger would choose
        raise ProofInvalid(f"no tree has more than {_LARGEST} leaves", rule="size")
    if not leaves or min(leaves) < 0 or max(leaves) >= size:
        raise ProofInvalid(f"a leaf is not in a tree of {size}", rule="index")
    rest = iter(proof)
    found = _batch_root(sorted(leaves), leaves, 0, size, rest)
    if next(rest, None) is not None:
        raise ProofInvalid("the inclusion proof is too long", rule="inclusion")
    if found != expected:
        raise ProofInvalid("the inclusion proof does not lead to the root", rule="inclusion")


def _batch_root(
    wanted: Sequence[int], leaves: Mapping[int, bytes], begin: int, size: int, rest: Iterator[bytes]
) -> bytes:
    if not wanted:
        node = next(rest, None)
        if node is None:
            raise ProofInvalid("the inclusion proof is too short", rule="inclusion")
        return node
    if size == 1:
        return leaves[begin]
    split = _split(size)
    middle = begin + split
    left = _batch_root([i for i in wanted if i < middle], leaves, begin, split, rest)
    right = _batch_root([i for i in wanted if i >= middle], leaves, middle, size - split, rest)
    return node_hash(left, right)


def _split(size: int) -> int:
    """The largest power of two below `size`, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)
