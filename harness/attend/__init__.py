"""Where memory tokens look: numbers, strips and a film (paper Fig. 2)."""
