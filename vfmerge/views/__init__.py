"""What models see in pictures, one evaluation at a time, for a run's picture, its gallery and its report."""
