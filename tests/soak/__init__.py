"""What was tried to make the service fall over."""
