"""The same rules under a virtual clock, and the study made with it."""
