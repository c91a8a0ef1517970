"""Tries. One node of the real machines under virtual time, with every fault a seed can think of."""
