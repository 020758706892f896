"""The calibrator: carries erasures out and gathers the proof."""
