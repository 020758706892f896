"""What others check without trusting whoever made it: hashes, signatures and proofs.

Needs the package `cryptography` and nothing else, so that a verifier runs anywhere.
"""
