"""The same deltas to other frameworks, side by side with Letheon."""
