"""What objects are told of themselves."""
