"""Ares: a training pipeline for trading models."""
