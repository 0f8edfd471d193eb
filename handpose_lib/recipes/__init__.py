"""Trainings and measurements of this project that can be run again: the weights, the ablation, the seeds."""
