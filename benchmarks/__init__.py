"""Measure the method: quality against controls, speed against peers."""
