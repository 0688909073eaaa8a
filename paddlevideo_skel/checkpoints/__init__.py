"""Checkpoints: read from any file, renamed from other projects' names, and fitted to a model."""
