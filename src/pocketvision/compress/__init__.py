"""Smaller and faster files of a network: each part offers candidates, and the gate decides."""
