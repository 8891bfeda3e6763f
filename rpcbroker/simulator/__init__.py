"""Simulated devices, to try the broker without hardware."""
