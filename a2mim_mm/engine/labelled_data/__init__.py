"""Checks that the files, classes and heads of a detection or segmentation config agree."""

from .check import check_labelled_data

__all__ = ['check_labelled_data']
