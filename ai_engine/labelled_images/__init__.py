"""Sets of labelled images, each in the layout that its makers gave it."""
