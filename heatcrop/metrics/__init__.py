"""The official score, calibration, fusion of branches and ensembles, submissions, and localisation."""
