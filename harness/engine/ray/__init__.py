"""Trials as Ray tasks: what is asked for, what a node does."""
