"""What adapters of models that know texts share: the options and the shape of the head that learns them."""
