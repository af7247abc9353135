"""Measure the method: quality against controls, speed against peers, memory against the number of images."""
