"""Diffusion models: processes that turn data into noise, and networks that learn to reverse them."""
