"""deploy/compose.yaml out of the built images, on a machine without a container engine."""
