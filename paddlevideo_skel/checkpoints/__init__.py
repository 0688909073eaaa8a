"""Checkpoints: read from any file, converted from other projects, and fitted to a model."""
