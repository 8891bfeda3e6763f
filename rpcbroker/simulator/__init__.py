"""Devices that exist in software only: what they do (`gpio`), how well (`device`), and over which protocol."""
