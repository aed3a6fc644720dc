"""Telling connections what they wait for."""
