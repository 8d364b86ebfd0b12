"""Bars on disk: datasets and their parts, coarser ones, copies of CSV files."""
