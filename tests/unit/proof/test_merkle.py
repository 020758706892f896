"""The log's tree against the definition of RFC 6962, written down once more and naively."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import ProofInvalid
from letheon.proof import merkle

contents = st.lists(st.binary(max_size=4), max_size=40)
HASHES = st.binary(min_size=32, max_size=32)


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, over contents."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = naive_root(leaves[:split]), naive_root(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def hashed(leaves: Sequence[bytes]) -> list[bytes]:
    return [merkle.leaf_hash(leaf) for leaf in leaves]


@given(contents)
def test_the_root_is_that_of_the_definition(leaves: list[bytes]) -> None:
    assert merkle.root(hashed(leaves)) == naive_root(leaves)


def test_the_published_example_of_a_tree_has_its_published_root() -> None:
    # The eight inputs that implementations of RFC 6962 share.
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    inputs.append("606162636465666768696a6b6c6d6e6f")
    leaves = hashed([bytes.fromhex(text) for text in inputs])
    assert merkle.root(leaves).hex() == (
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    )


@given(contents.filter(len), st.data())
def test_every_leaf_is_proven_at_its_place_and_nowhere_else(
    leaves: list[bytes], data: st.DataObject
) -> None:
    hashes, root = hashed(leaves), naive_root(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.inclusion_proof(hashes, index)
    assert len(proof) <= len(leaves).bit_length()
    merkle.verify_inclusion(hashes[index], index, len(leaves), proof, root)
    for other in range(len(leaves)):
        if hashes[other] != hashes[index]:
            with pytest.raises(ProofInvalid):
                merkle.verify_inclusion(hashes[index], other, len(leaves), proof, root)


@given(contents.filter(len), st.data())
def test_a_forged_inclusion_proof_is_refused(leaves: list[bytes], data: st.DataObject) -> None:
    hashes, root = hashed(leaves), naive_root(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.inclusion_proof(hashes, index)
    forged = list(proof)
    match data.draw(st.sampled_from(["longer", "shorter", "other"])):
        case "longer":
            forged.append(data.draw(HASHES))
        case "shorter" if forged:
            forged.pop(data.draw(st.integers(0, len(forged) - 1)))
        case _ if forged:
            forged[data.draw(st.integers(0, len(forged) - 1))] = data.draw(HASHES)
    if forged != proof:
        with pytest.raises(ProofInvalid):
            merkle.verify_inclusion(hashes[index], index, len(leaves), forged, root)


@given(contents, st.data())
def test_a_log_that_only_grew_is_proven_to_have_grown(
    leaves: list[bytes], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(leaves)))
    hashes = hashed(leaves)
    proof = merkle.consistency_proof(hashes, first)
    merkle.verify_consistency(
        first, len(leaves), naive_root(leaves[:first]), naive_root(leaves), proof
    )


@given(contents.filter(len), st.binary(max_size=4), st.data())
def test_no_proof_makes_a_rewritten_log_consistent(
    leaves: list[bytes], other: bytes, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, len(leaves)))
    changed = data.draw(st.integers(0, first - 1))
    rewritten = [*leaves[:changed], other, *leaves[changed + 1 :]]
    if rewritten == leaves:
        return
    forged = merkle.consistency_proof(hashed(rewritten), first)
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(
            first, len(leaves), naive_root(leaves[:first]), naive_root(rewritten), forged
        )


def test_a_shrunk_log_and_a_proof_for_an_empty_one_are_refused() -> None:
    hashes = hashed([b"a", b"b", b"c"])
    root = merkle.root(hashes)
    with pytest.raises(ProofInvalid, match="cannot follow"):
        merkle.verify_consistency(3, 2, root, merkle.root(hashes[:2]), [])
    with pytest.raises(ProofInvalid, match="too long"):
        merkle.verify_consistency(0, 3, merkle.EMPTY_ROOT, root, [root])
    with pytest.raises(ProofInvalid, match="two roots"):
        merkle.verify_consistency(3, 3, merkle.root(hashes[:2]), root, [])
    with pytest.raises(ProofInvalid):
        merkle.consistency_proof(hashes, 4)
    with pytest.raises(ProofInvalid):
        merkle.inclusion_proof(hashes, 3)


@given(contents.filter(len), st.data())
def test_several_leaves_share_one_proof(leaves: list[bytes], data: st.DataObject) -> None:
    hashes, root = hashed(leaves), naive_root(leaves)
    wanted = data.draw(st.sets(st.integers(0, len(leaves) - 1), min_size=1))
    proof = merkle.batch_proof(hashes, sorted(wanted))
    assert len(proof) <= len(leaves) - len(wanted)
    named = {index: hashes[index] for index in wanted}
    merkle.verify_batch(named, len(leaves), proof, root)
    victim = data.draw(st.sampled_from(sorted(wanted)))
    with pytest.raises(ProofInvalid):
        merkle.verify_batch({**named, victim: bytes(32)}, len(leaves), proof, root)
    with pytest.raises(ProofInvalid):
        merkle.verify_batch(named, len(leaves), [*proof, bytes(32)], root)
    if proof:
        with pytest.raises(ProofInvalid):
            merkle.verify_batch(named, len(leaves), proof[:-1], root)


def test_a_tree_deeper_than_any_is_refused_before_it_is_climbed() -> None:
    with pytest.raises(ProofInvalid) as caught:
        merkle.verify_batch({0: bytes(32)}, 10**4000, [], bytes(32))
    assert caught.value.facts["rule"] == "size"
