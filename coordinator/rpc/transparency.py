"""letheon.v1.Transparency."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

from dataclasses import dataclass

import grpc

from coordinator.domain.evidence import LeafKind
from coordinator.services.transparency import Transparency
from letheon.v1 import transparency_pb2, transparency_pb2_grpc


@dataclass(frozen=True)
class TransparencyServicer(transparency_pb2_grpc.TransparencyServicer):
    """Checkpoints, proofs and keys."""

    log: Transparency

    def GetCheckpoint(
        self, request: transparency_pb2.GetCheckpointRequest, context: grpc.ServicerContext
    ) -> transparency_pb2.Checkpoint:
        """The newest signed note."""
        return transparency_pb2.Checkpoint(note=self.log.checkpoint())

    def GetInclusion(
        self, request: transparency_pb2.GetInclusionRequest, context: grpc.ServicerContext
    ) -> transparency_pb2.Inclusion:
        """One entry and its proof."""
        size = request.size
        if not size:
            with self.log.store.read() as uow:
                size = uow.log.size()
        leaf, proof = self.log.inclusion(request.index, size)
        return transparency_pb2.Inclusion(
            index=leaf.number,
            size=size,
            kind=leaf.kind.value,
            leaf_hash=bytes.fromhex(leaf.leaf_hash),
            proof=proof,
            content=leaf.content if leaf.kind is LeafKind.AUDIT_HEAD else b"",
        )

    def GetConsistency(
        self, request: transparency_pb2.GetConsistencyRequest, context: grpc.ServicerContext
    ) -> transparency_pb2.Consistency:
        """That nothing was rewritten."""
        proof = self.log.consistency(request.first, request.second)
        return transparency_pb2.Consistency(proof=proof)

    def GetKeys(
        self, request: transparency_pb2.GetKeysRequest, context: grpc.ServicerContext
    ) -> transparency_pb2.Keys:
        """Every key of the coordinator."""
        return transparency_pb2.Keys(key_list=self.log.signer.keys.content())
