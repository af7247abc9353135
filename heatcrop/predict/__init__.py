"""Predict new images with a finished or exported run; export runs; fuse several of them."""
