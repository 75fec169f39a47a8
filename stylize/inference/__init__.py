"""Applying a style."""
