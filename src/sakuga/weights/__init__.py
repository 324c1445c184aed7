"""What a file of weights is: containers, tensors, storage formats; trusted with nothing."""
