"""Speed of one model, or of two ways to compute it, by the protocol of ``docs/fps.md``."""
