"""Autoencoders, built on minigrad."""
