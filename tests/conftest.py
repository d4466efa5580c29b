"""Shared fixtures: real images and the fixed clock."""
