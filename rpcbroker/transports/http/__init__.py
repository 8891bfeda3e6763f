"""Devices that speak HTTP: long polls, server-sent events, and plain requests."""
