"""Proofs of the transparency log: whatever is accepted is true of the tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from letheon.errors import ProofInvalid
from letheon.proof import merkle

from ..choices import Choices
from ..target import Target, promise

_LEAVES = tuple(merkle.leaf_hash(bytes([number])) for number in range(70))
_ROOTS = tuple(merkle.root(_LEAVES[:size]) for size in range(len(_LEAVES) + 1))
_HUGE = (2**31, 2**63, 2**64 + 1, 2**200, 10**4000)


def run(data: bytes) -> bool:
    choices = Choices(data)
    check = choices.pick((_inclusion, _consistency, _batch))
    size = 1 + choices.number(255) % (len(_LEAVES) - 1)
    try:
        check(choices, size)
    except ProofInvalid:
        return False
    return True


def _inclusion(choices: Choices, size: int) -> None:
    index = choices.number(255) % size
    proof = merkle.inclusion_proof(_LEAVES[:size], index)
    is_plain, claimed, total = _claims(choices, index, size)
    leaf, path = _nodes(choices, [_LEAVES[index], *proof])
    _checked(
        lambda: merkle.verify_inclusion(leaf, claimed, total, path, _ROOTS[size]),
        plain=is_plain and (leaf, path) == (_LEAVES[index], proof),
    )
    if total == size:
        promise(_LEAVES[claimed] == leaf, "an accepted leaf stands where the proof says")


def _consistency(choices: Choices, second: int) -> None:
    first = choices.number(255) % (second + 1)
    proof = merkle.consistency_proof(_LEAVES[:second], first)
    is_plain, begin, end = _claims(choices, first, second)
    old, path = _nodes(choices, [_ROOTS[first], *proof])
    _checked(
        lambda: merkle.verify_consistency(begin, end, old, _ROOTS[second], path),
        plain=is_plain and (old, path) == (_ROOTS[first], proof),
    )
    if end == second:
        promise(_ROOTS[begin] == old, "an accepted beginning is the beginning")


def _batch(choices: Choices, size: int) -> None:
    wanted = sorted({choices.number(255) % size for _ in range(1 + choices.number(255) % 6)})
    proof = merkle.batch_proof(_LEAVES[:size], wanted)
    is_plain, moved, total = _claims(choices, wanted[0], size)
    first, path = _nodes(choices, [_LEAVES[wanted[0]], *proof])
    leaves = {index: _LEAVES[index] for index in wanted[1:]} | {moved: first}
    is_plain = is_plain and (first, path) == (_LEAVES[wanted[0]], proof)
    _checked(lambda: merkle.verify_batch(leaves, total, path, _ROOTS[size]), plain=is_plain)
    if total == size:
        promise(
            all(_LEAVES[index] == leaf for index, leaf in leaves.items()),
            "every accepted leaf stands where the proof says",
        )


def _checked(verify: object, *, plain: bool) -> None:
    try:
        verify()  # type: ignore[operator]
    except ProofInvalid as error:
        promise(not plain, f"a genuine proof holds: {error.message}")
        raise


def _claims(choices: Choices, index: int, size: int) -> tuple[bool, int, int]:
    how = choices.number(255) % 8
    changed = {
        1: (index + 1, size),
        2: (index, size + 1),
        3: (choices.pick(_HUGE) if how == 3 else 0, size),
        4: (index, choices.pick(_HUGE) if how == 4 else 0),
        5: (-index, size),
        6: (index, choices.number(255) if how == 6 else 0),
    }.get(how, (index, size))
    return changed == (index, size), *changed


def _nodes(choices: Choices, nodes: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    changed = list(nodes)
    for _ in range(choices.number(255) % 4):
        how = choices.number(255) % 6
        at = choices.number(255) % len(changed)
        if how == 0:
            changed[at] = choices.pick(_LEAVES)
        elif how == 1:
            changed.insert(at, choices.pick(_ROOTS))
        elif how == 2 and len(changed) > 1:
            del changed[at]
        elif how == 3:
            changed[at] = choices.some_bytes(64)
        elif how == 4:
            changed.append(choices.bytes(32))
        else:
            changed[at], changed[0] = changed[0], changed[at]
    return changed[0], changed[1:]


def _seeds() -> Iterator[bytes]:
    for kind in range(3):
        for size in (0, 1, 2, 6, 7, 31, 63, 68):
            for index in (0, 1, size // 2, size):
                yield bytes([kind, size, index])
                if kind == 2:
                    yield bytes([kind, size, 3, index, 0, size, 1])
        for claim in range(1, 8):
            yield bytes([kind, 6, 3, claim, 0, 0])
        for how in range(6):
            yield bytes([kind, 6, 3, 0, 1, how, 1, 2])


TARGET = Target("proofs", "letheon.proof.merkle: inclusion, consistency and batch", run, _seeds)
