"""What `make chart` does: lint, render and validate deploy/helm/letheon."""
