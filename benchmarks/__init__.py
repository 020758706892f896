"""Measurements. A package, because another one of this name comes with Opacus."""
