"""The figures, one file for each kind; `style` is the look that all share."""
