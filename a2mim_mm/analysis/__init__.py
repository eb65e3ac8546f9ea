"""What a trained network has learnt, measured without training it further: one file for each analysis."""
