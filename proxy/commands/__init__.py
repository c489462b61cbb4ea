"""Commands of `ringfence` that belong to no other room, and what they print with."""
