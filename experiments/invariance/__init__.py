"""What contrast and brightness do to a trained network, and what centring and q = 0 do about it."""
