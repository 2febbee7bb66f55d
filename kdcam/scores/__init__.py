"""Scores as plain functions: accuracy, calibration, ranking, intervals, embeddings."""
