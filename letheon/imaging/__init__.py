"""The medical task: records, networks, local training and scores. Knows nothing of federation."""
