"""Benchmarks: each measures capabilities on one data set, and cannot tell a parent from a merged model."""
